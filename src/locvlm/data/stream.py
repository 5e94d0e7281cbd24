"""Examples from shards: the objective and the encoding of each sample.

Every example is a pure function of (seed, pass, sample): workers and ranks only share the work.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import ParamSpec, TypedDict, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from locvlm.data.mixture import Draw, Mixture
from locvlm.data.shards import Shards
from locvlm.errors import ConfigError, DataError
from locvlm.geometry import visible_part
from locvlm.objectives import Mix
from locvlm.processor import Example, Processor
from locvlm.types import Message, Sample

P = ParamSpec("P")
T = TypeVar("T")
ATTEMPTS = 100
_UNSEEN = torch.empty(0)  # where an image will stand


@dataclass(frozen=True, slots=True)
class Source:
    """One data set of a mixture.

    Args:
        shards: folder of prepared shards, a path or a URL; None leaves the data set out.
        objective: makes conversations from annotations, afresh on each pass; None where the
            shards hold finished conversations.
        weight: share of the mixture, in the unit of the other sources' weights; None in all of
            them mixes in proportion to their samples, so that an epoch holds each sample once.
        cache: where shards of an object store are kept; None takes `~/.cache/locvlm/shards`.
        answer_weight: what each token of finished conversations' answers weighs in the loss;
            objectives have weights of their own.
    """

    shards: str | None
    objective: Mix | None = None
    weight: float | None = None
    answer_weight: float = 1.0
    cache: str | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether it takes part: it has samples, a share, and something to ask about them."""
        asks = self.objective is None or len(self.objective) > 0
        return self.shards is not None and self.weight != 0 and asks


class Loaded(TypedDict):
    """An example, and why samples that should have stood in its place were skipped.

    There is no example where `ATTEMPTS` samples in a row could not be used. `draw` is the place
    that the example is from.
    """

    example: Example | None
    skipped: list[str]
    draw: Draw


class Examples(Dataset[Loaded]):
    """Training examples of a mixture of sources.

    Args:
        sources: the data sets; those that are not drawn are left out.
        processor: encodes samples.
        epoch_length: examples per epoch; None takes as many as the sources hold.
        seed: of order, objectives and prompts.
        look: gives what the model sees of a sample, such as `Features`; None: its pixels.

    Attributes:
        shards: of the sources that are drawn.
        mixture: the order of the draws.
        unreadable: samples that are missing, in shards that are missing or cut short; they are
            not drawn.

    Raises:
        ConfigError: some of the sources have a weight and others none.
        DataError: a folder holds no shards, or none that can be read.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        processor: Processor,
        *,
        epoch_length: int | None = None,
        seed: int = 0,
        look: Callable[[Sample], Tensor] | None = None,
    ):
        self.look = look
        self.sources = [source for source in sources if source.is_drawn]
        self.processor = processor
        self.seed = seed
        self.shards = [Shards(str(source.shards), source.cache) for source in self.sources]
        for shards in self.shards:
            _check_readable(shards)
        self.unreadable = [reason for shards in self.shards for reason in shards.unreadable()]
        self.mixture = Mixture(
            [shards.lengths for shards in self.shards], _weights(self.sources), epoch_length, seed
        )

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, draw: Draw) -> Loaded:
        """The example of `draw`; the place of a sample that cannot be used is taken by another."""
        skipped: list[str] = []
        for place in self._places(draw):
            try:
                example = self._shown(*self._told(place))
            except DataError as error:
                skipped.append(str(error))
                continue
            if _teaches(example):
                return {"example": example, "skipped": skipped, "draw": place}
        return {"example": None, "skipped": skipped, "draw": draw}

    def __getitems__(self, draws: Sequence[Draw]) -> list[Loaded]:
        """The same as one by one, in a tenth less time; torch's loader takes a batch by it.

        An image that is decoded drives all else out of the CPU's caches, so texts come first.
        """
        told = [_or_none(self._told, draw) for draw in draws]
        examples = [
            _or_none(self._shown, *one) if one is not None and _teaches(one[1]) else None
            for one in told
        ]
        return [
            self[draw] if example is None else {"example": example, "skipped": [], "draw": draw}
            for draw, example in zip(draws, examples, strict=True)
        ]

    def sample(self, draw: Draw) -> tuple[Sample, list[Message]]:
        """The sample of `draw` and the conversation about it.

        Raises:
            DataError: the sample is damaged.
        """
        shards = self.shards[draw.source]
        sample = visible_part(shards[int(shards.readable[draw.sample])], self.processor.geometry)
        source = self.sources[draw.source]
        if source.objective is None:
            return sample, [
                replace(message, weight=message.weight * source.answer_weight)
                for message in sample.messages
            ]
        return sample, source.objective(sample, Random(f"{self.seed} {draw.turn} {sample.key}"))

    def _places(self, draw: Draw) -> Iterator[Draw]:
        yield draw
        # Not the neighbours, which are damaged too where a whole stretch of a shard is.
        rng = Random(f"{self.seed} {draw}")
        length = self.mixture.lengths[draw.source]
        for _ in range(ATTEMPTS - 1):
            yield Draw(draw.source, rng.randrange(length), draw.turn)

    def _told(self, draw: Draw) -> tuple[Sample, Example]:
        """The sample of `draw` and its example, in which only the image is missing."""
        sample, messages = self.sample(draw)
        return sample, self.processor.encode(sample, messages, _UNSEEN)

    def _shown(self, sample: Sample, example: Example) -> Example:
        look = self.look or self.processor.pixel_values
        example["pixel_values"] = look(sample)
        return example


def _teaches(example: Example) -> bool:
    return bool((example["labels"] >= 0).any())


def _or_none(make: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T | None:
    """What `make` gives; None where the sample is bad."""
    try:
        return make(*arguments, **options)
    except DataError:
        return None


def _check_readable(shards: Shards) -> None:
    if not len(shards.readable):
        raise DataError(
            f"no sample can be read: all {len(shards):,} are in shards that are missing or cut",
            where=str(shards.folder),
            fix="copy the folder again, or prepare the data again",
        )


def _weights(sources: Sequence[Source]) -> list[float] | None:
    weights = [source.weight for source in sources if source.weight is not None]
    if weights and len(weights) < len(sources):
        raise ConfigError(
            "some sources have a weight, others have none",
            where="data",
            fix="give all of them a weight, or none to take each sample once per epoch",
        )
    return weights or None
