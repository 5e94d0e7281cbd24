"""The LightningDataModule: batches of examples from mixed shards, resumed where they stopped."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lightning import LightningDataModule
from torch import Tensor

from locvlm.chat import ChatFormat
from locvlm.data.collate import collate
from locvlm.data.loader import BatchSampler, Loader
from locvlm.data.packing import pack
from locvlm.data.quarantine import BadSamples
from locvlm.data.shards import Shards
from locvlm.data.stream import Examples, Source
from locvlm.errors import ConfigError
from locvlm.processor import Example, Processor
from locvlm.types import Sample

logger = logging.getLogger(__name__)


class LocVLMDataModule(LightningDataModule):
    """Batches from weighted sources of conversations and localization data.

    Lightning stores the loader's state in its checkpoints, so a resumed run goes on with the
    very next batch.

    Args:
        processor: encodes samples; shared with the model.
        train: sources of training data, by name.
        val: sources of validation data, by name; empty to skip validation.
        batch_size: examples per device and step.
        epoch_length: examples per epoch; None takes as many as the sources hold.
        val_length: examples of a validation run; None takes as many as the sources hold.
        pack: lets the examples of a training batch share rows, which saves nearly all padding where
            lengths differ; the loss stays the same.
        num_workers: processes that decode and tokenize; 0 works in the training process.
        max_bad_samples: bad samples that are skipped before the run stops; each counts once.
        chat: another chat format than the processor's, such as `plain` for stage 1.
        seed: of order, objectives and prompts.

    Attributes:
        look: as in `Examples`.

    Raises:
        ConfigError: one of the numbers is too small, or is none.
    """

    def __init__(
        self,
        processor: Processor,
        train: Mapping[str, Source],
        val: Mapping[str, Source] | None = None,
        *,
        batch_size: int,
        epoch_length: int | None = None,
        val_length: int | None = None,
        pack: bool = False,
        num_workers: int = 0,
        max_bad_samples: int = 100,
        chat: ChatFormat | None = None,
        seed: int = 0,
    ):
        super().__init__()
        _check_at_least(0, num_workers=num_workers, seed=seed)
        _check_at_least(1, batch_size=batch_size, epoch_length=epoch_length, val_length=val_length)
        self.processor = processor if chat is None else processor.speaking(chat)
        self.sources: dict[str, list[Source]] = {
            "train": list(train.values()),
            "val": list((val or {}).values()),
        }
        self.lengths = {"train": epoch_length, "val": val_length}
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.pack = pack
        self.bad_samples = BadSamples(max_bad_samples)
        self.look: Callable[[Sample], Tensor] | None = None

    def train_dataloader(self) -> Loader:
        return self._loader("train")

    def val_dataloader(self) -> Loader | list[Loader]:
        return self._loader("val") if self._has_any("val") else []

    def teardown(self, stage: str) -> None:
        """Says how many samples were skipped."""
        if len(self.bad_samples) > 1:
            logger.warning("skipped %d bad samples", len(self.bad_samples))

    def examples(self, split: str) -> Examples:
        """The examples of `train` or `val` by draw.

        Raises:
            ConfigError: no source of this split takes part.
            DataError: a folder holds no shards, or none that can be read.
        """
        if not self._has_any(split):
            raise ConfigError(
                f"no source of {split} data has anything to learn",
                where=f"data.{split}",
                fix=f"give one a folder of shards, as data.{split}.localization.shards=FOLDER, and "
                "a weight; annotated images need objectives other than none",
            )
        return Examples(
            self.sources[split],
            self.processor,
            epoch_length=self.lengths[split],
            seed=self.seed,
            look=self.look,
        )

    def shards(self) -> list[Shards]:
        """Of all sources that take part, in training and validation."""
        sources = [source for split in self.sources.values() for source in split if source.is_drawn]
        return [Shards(str(source.shards), source.cache) for source in sources]

    def collate(self) -> Callable[[Sequence[Example]], Any]:
        """Examples to a batch."""
        return partial(pack if self.pack else collate, pad_id=self.processor.pad_id)

    def _has_any(self, split: str) -> bool:
        return any(source.is_drawn for source in self.sources[split])

    def _loader(self, split: str) -> Loader:
        examples = self.examples(split)
        trainer = self.trainer
        sampler = BatchSampler(
            examples.mixture,
            self.batch_size,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            fixed=split == "val",
        )
        return Loader(
            examples,
            sampler,
            self.collate(),
            bad_samples=self.bad_samples,
            num_workers=self.num_workers,
        )


def _check_at_least(least: int, **numbers: Any) -> None:
    for name, number in numbers.items():
        if number is not None and not (isinstance(number, int) and number >= least):
            raise ConfigError(
                f"{name} must be a whole number of at least {least}, got {number!r}",
                where=f"data.{name}",
            )
