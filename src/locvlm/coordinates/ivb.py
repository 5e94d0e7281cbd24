"""IVB, integer valued binning: each coordinate as the number of the nearest of n_b bin edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from locvlm.coordinates.scheme import Problem
from locvlm.errors import ConfigError
from locvlm.types import Unit


@dataclass(frozen=True, slots=True)
class IVB:
    """Writes each coordinate as one of `bins + 1` integers, 0 to `bins` inclusive.

    A value v of the frame becomes round(v * bins), halves to the even integer. Decoding is off by
    at most 1 / (2 * bins) of the frame's side: 1.43 px of 640 px at 224 bins.

    Args:
        bins: intervals per side; the paper uses the input resolution (224, 336).

    Raises:
        ConfigError: `bins` is below 1.

    Source: LocVLM, CVPR 2024, section 3 (coordinate representations).
    """

    bins: int

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise ConfigError(f"bins must be at least 1, got {self.bins}", where="coordinates.bins")

    @property
    def n_box(self) -> int:
        return 4

    @property
    def n_point(self) -> int:
        return 2

    def encode(self, values: Unit) -> list[int]:
        """Frame coordinates to bins, in the same order."""
        return [round(value * self.bins) for value in values]  # Python rounds halves to even

    def decode(self, numbers: Sequence[float]) -> Unit:
        """Bins to frame coordinates; a bin outside 0..`bins` lands outside [0, 1]."""
        return Unit(tuple(number / self.bins for number in numbers))

    def encode_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(K, 4) frame coordinates to (K, 4) int64 bins."""
        return np.rint(np.asarray(boxes, dtype=np.float64) * self.bins).astype(np.int64)

    def decode_boxes(self, numbers: np.ndarray) -> np.ndarray:
        """(K, 4) bins to (K, 4) frame coordinates."""
        return np.asarray(numbers) / self.bins

    def check(self, numbers: Sequence[float]) -> Problem | None:
        """All numbers must be integers in 0..`bins`; 4.0 is one."""
        if not all(0 <= number <= self.bins for number in numbers):
            return "out of range"
        return "not integers" if any(number % 1 for number in numbers) else None

    def format(self, number: float) -> str:
        """An integer without leading zeros."""
        return str(int(number))
