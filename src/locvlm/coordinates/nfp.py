"""NFP, normalized floating point: each coordinate as a decimal fraction of the frame's side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from locvlm.coordinates.scheme import Problem
from locvlm.errors import ConfigError
from locvlm.types import Unit


@dataclass(frozen=True, slots=True)
class NFP:
    """Writes each coordinate as v / side, rounded to `decimals`, halves to the even digit.

    Decoding is off by at most 0.5 * 10 ** -decimals of the frame's side.

    Args:
        decimals: digits after the point, 1 to 12; the paper's experiments use 4, its slides
            print 3.

    Raises:
        ConfigError: `decimals` is below 1 or above 12.

    Source: LocVLM, CVPR 2024, section 3 (coordinate representations).
    """

    decimals: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.decimals <= 12:
            raise ConfigError(
                f"decimals must be 1 to 12, got {self.decimals}", where="coordinates.decimals"
            )

    @property
    def n_box(self) -> int:
        return 4

    @property
    def n_point(self) -> int:
        return 2

    def encode(self, values: Unit) -> list[float]:
        """Frame coordinates to rounded fractions, in the same order."""
        return [round(value * self._scale) / self._scale for value in values]

    def decode(self, numbers: Sequence[float]) -> Unit:
        """Fractions are frame coordinates already."""
        return Unit(tuple(float(number) for number in numbers))

    def encode_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(K, 4) frame coordinates to (K, 4) rounded fractions."""
        steps = np.rint(np.asarray(boxes, dtype=np.float64) * self._scale)
        return np.asarray(steps.astype(np.int64) / self._scale)  # through integers: no -0.0

    def decode_boxes(self, numbers: np.ndarray) -> np.ndarray:
        """(K, 4) fractions are frame coordinates already."""
        return np.asarray(numbers, dtype=np.float64)

    def check(self, numbers: Sequence[float]) -> Problem | None:
        """All numbers must lie in 0 to 1."""
        return None if all(0 <= number <= 1 for number in numbers) else "out of range"

    def format(self, number: float) -> str:
        """A fraction with all its decimals: 0.5 is written 0.5000."""
        return f"{number:.{self.decimals}f}"

    @property
    def _scale(self) -> int:
        # round(value, decimals) follows the float's decimal digits, numpy's round does not: this
        # product makes one value and a million values agree in every bit.
        return int(10**self.decimals)
