"""The LightningDataModule: batches of examples from mixed shards, resumed where they stopped."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lightning import LightningDataModule
from torchdata.stateful_dataloader import StatefulDataLoader

from locvlm.chat import ChatFormat
from locvlm.data.collate import Batch, collate
from locvlm.data.stream import EpochSampler, Examples, Source
from locvlm.errors import ConfigError, DataError
from locvlm.processor import Processor

log = logging.getLogger(__name__)


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
        num_workers: processes that decode and tokenize; 0 works in the training process.
        max_bad_samples: bad samples that are skipped, in all, before the run stops.
        chat: another chat format than the processor's, such as `plain` for stage 1.
        seed: of order, objectives and prompts.

    Raises:
        ConfigError: there is no training source.
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
        num_workers: int = 0,
        max_bad_samples: int = 100,
        chat: ChatFormat | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.processor = processor if chat is None else processor.speaking(chat)
        self.sources: dict[str, list[Source]] = {
            "train": list(train.values()),
            "val": list((val or {}).values()),
        }
        self.lengths = {"train": epoch_length, "val": val_length}
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.max_bad_samples = max_bad_samples
        self.n_bad_samples = 0
        if not any(source.is_drawn for source in self.sources["train"]):
            raise ConfigError(
                "no source of training data has anything to learn",
                where="data.train",
                fix="give a conversation source a weight, or choose objectives other than none",
            )

    def train_dataloader(self) -> StatefulDataLoader:
        return self._loader("train")

    def val_dataloader(self) -> StatefulDataLoader | list[StatefulDataLoader]:
        has_any = any(source.is_drawn for source in self.sources["val"])
        return self._loader("val") if has_any else []

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Counts skipped samples, in the main process, and stops past the limit.

        Raises:
            DataError: more than `max_bad_samples` were bad.
        """
        reasons = batch.pop("skipped", [])
        if reasons and not self.n_bad_samples:
            log.warning("skipped a bad sample (further ones are only counted): %s", reasons[0])
        self.n_bad_samples += len(reasons)
        if self.n_bad_samples > self.max_bad_samples:
            raise DataError(
                f"{self.n_bad_samples} bad samples, {self.max_bad_samples} allowed; the last one: "
                f"{reasons[-1]}",
                where="data.max_bad_samples",
                fix="prepare the data again, or raise data.max_bad_samples",
            )
        return batch

    def examples(self, split: str) -> Examples:
        """The examples of `train` or `val` by draw."""
        return Examples(
            self.sources[split],
            self.processor,
            epoch_length=self.lengths[split],
            seed=self.seed,
        )

    def collate(self) -> Callable[[Sequence[Any]], Any]:
        """Examples to a batch."""
        return partial(collate, pad_id=self.processor.pad_id)

    def _loader(self, split: str) -> StatefulDataLoader:
        examples = self.examples(split)
        rank, world_size = self._place()
        sampler = EpochSampler(examples.mixture, rank, world_size, fixed=split == "val")
        options: dict[str, Any] = {}
        if self.num_workers:
            options = {"persistent_workers": split == "train", "prefetch_factor": 4}
        return StatefulDataLoader(
            examples,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=self.collate(),
            **options,
        )

    def _place(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size
