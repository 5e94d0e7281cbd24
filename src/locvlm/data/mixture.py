"""Which sample comes when: several sources mixed by weight, as a pure function of seed and epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from locvlm.errors import ConfigError


class Draw(NamedTuple):
    """One draw: sample `index` of source `source`, on its pass number `turn` over that source."""

    source: int
    index: int
    turn: int


@dataclass(frozen=True, slots=True)
class Mixture:
    """The order of the samples of several sources.

    Each source runs through all its samples in a fresh random order, again and again; an epoch
    takes as many of them as its weight says, and goes on in the next where this one ended. So no
    sample comes twice before all others of its source came once, whatever the weights are, and
    the order depends on neither workers nor ranks.

    Args:
        lengths: samples of each source.
        weights: share of each source, in any unit; None mixes in proportion to the lengths.
        epoch_length: samples per epoch; None takes as many as all sources hold.
        seed: of the order.

    Raises:
        ConfigError: weights do not match the sources, or there is nothing to draw from.
    """

    lengths: Sequence[int]
    weights: Sequence[float] | None = None
    epoch_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        weights = self.lengths if self.weights is None else self.weights
        if len(weights) != len(self.lengths) or any(weight < 0 for weight in weights):
            raise ConfigError(
                f"{len(self.lengths)} sources need as many weights of at least 0, "
                f"got {list(weights)}",
                where="data.sources",
            )
        drawn = (weight for weight, n in zip(weights, self.lengths, strict=True) if n > 0)
        if not any(drawn):
            raise ConfigError("there is nothing to draw samples from", where="data.sources")

    def __len__(self) -> int:
        """Samples per epoch."""
        return sum(self.lengths) if self.epoch_length is None else self.epoch_length

    def counts(self) -> list[int]:
        """Samples that an epoch takes of each source; they add up to the epoch's length."""
        weights = np.array(self.lengths if self.weights is None else self.weights, dtype=float)
        weights[np.array(self.lengths) == 0] = 0
        edges = np.rint(np.cumsum(weights) / weights.sum() * len(self)).astype(int)
        return [int(n) for n in np.diff(edges, prepend=0)]

    def epoch(self, number: int) -> list[Draw]:
        """All draws of epoch `number`, in order."""
        draws = [
            draw
            for source, count in enumerate(self.counts())
            for draw in self._run(source, number * count, count)
        ]
        order = np.random.default_rng([self.seed, number]).permutation(len(draws))
        return [draws[position] for position in order]

    def _run(self, source: int, start: int, count: int) -> list[Draw]:
        """Draws `start` to `start + count` of the endless run through one source."""
        draws: list[Draw] = []
        length = self.lengths[source]
        while len(draws) < count:
            turn, offset = divmod(start + len(draws), length)
            order = np.random.default_rng([self.seed, source + 1, turn, length]).permutation(length)
            taken = order[offset : offset + count - len(draws)]
            draws += [Draw(source, int(index), turn) for index in taken]
        return draws
