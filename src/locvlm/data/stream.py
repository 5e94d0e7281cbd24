"""Examples from shards: the order, the objective and the encoding of each sample.

Every example is a pure function of (seed, pass, sample): workers and ranks only share the work.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypedDict

from torch.utils.data import Dataset, Sampler

from locvlm.data.mixture import Draw, Mixture
from locvlm.data.shards import Shards
from locvlm.errors import DataError
from locvlm.processor import Example, Processor
from locvlm.types import Message, Sample


class Objective(Protocol):
    """Makes a conversation about a sample; its length says how many kinds of turns it has."""

    def __len__(self) -> int: ...

    def __call__(self, sample: Sample, rng: Random) -> list[Message]: ...


@dataclass(frozen=True, slots=True)
class Source:
    """One data set of a mixture.

    Args:
        shards: folder of prepared shards.
        objective: makes conversations from annotations, afresh on each pass; None where the
            shards hold finished conversations.
        weight: share of the mixture, in the unit of the other sources' weights.
    """

    shards: str
    objective: Objective | None = None
    weight: float = 1.0

    @property
    def is_drawn(self) -> bool:
        """Whether it takes part: it has a share, and its objective something to ask."""
        return self.weight > 0 and (self.objective is None or len(self.objective) > 0)


class Loaded(TypedDict):
    """An example, and why samples that should have stood in its place were skipped."""

    example: Example
    skipped: list[str]


class Examples(Dataset[Loaded]):
    """Training examples of a mixture of sources.

    Args:
        sources: the data sets; those that are not drawn are left out.
        processor: encodes samples.
        epoch_length: examples per epoch; None takes as many as the sources hold.
        seed: of order, objectives and prompts.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        processor: Processor,
        *,
        epoch_length: int | None = None,
        seed: int = 0,
    ):
        self.sources = [source for source in sources if source.is_drawn]
        self.processor = processor
        self.seed = seed
        self._shards = [Shards(source.shards) for source in self.sources]
        self.mixture = Mixture(
            [len(shards) for shards in self._shards],
            [source.weight for source in self.sources],
            epoch_length,
            seed,
        )

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, draw: Draw) -> Loaded:
        """The example of `draw`; a bad sample's place is taken by the next good one.

        Raises:
            DataError: 100 samples in a row are bad.
        """
        skipped: list[str] = []
        shards = self._shards[draw.source]
        for step in range(100):
            index = (draw.index + step) % len(shards)
            try:
                example = self._example(Draw(draw.source, index, draw.turn))
            except DataError as error:
                skipped.append(str(error))
                continue
            if (example["labels"] >= 0).any():
                return {"example": example, "skipped": skipped}
        raise DataError(
            "100 samples in a row give nothing to learn",
            where=self.sources[draw.source].shards,
            fix=f"look at them with python -m locvlm.audit; the last reason: {skipped[-1:]}",
        )

    def sample(self, draw: Draw) -> tuple[Sample, list[Message]]:
        """The sample of `draw` and the conversation about it."""
        sample = self.processor.visible(self._shards[draw.source][draw.index])
        objective = self.sources[draw.source].objective
        if objective is None:
            return sample, list(sample.messages)
        rng = Random(f"{self.seed} {draw.turn} {sample.key}")
        return sample, objective(sample, rng)

    def _example(self, draw: Draw) -> Example:
        sample, messages = self.sample(draw)
        return self.processor.encode(sample, messages)


class EpochSampler(Sampler[Draw]):
    """The draws of an epoch that fall to one rank; Lightning sets the epoch.

    All ranks get as many draws: where the epoch does not divide, the first ones come again.

    Args:
        mixture: the order.
        rank: of this process.
        world_size: number of processes.
        fixed: always the order of epoch 0, for validation.
    """

    def __init__(
        self, mixture: Mixture, rank: int = 0, world_size: int = 1, *, fixed: bool = False
    ):
        self.mixture, self.rank, self.world_size = mixture, rank, world_size
        self.fixed = fixed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order the next iteration gives."""
        self.epoch = 0 if self.fixed else epoch

    def __len__(self) -> int:
        return -(-len(self.mixture) // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        draws = self.mixture.epoch(self.epoch)
        for position in range(len(self)):
            yield draws[(position * self.world_size + self.rank) % len(draws)]
