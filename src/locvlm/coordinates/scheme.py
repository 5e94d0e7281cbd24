"""What every coordinate scheme offers: locations of the model's frame to numbers and back."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

import numpy as np

from locvlm.types import Unit

Problem: TypeAlias = Literal["out of range", "not integers"]


class Coordinates(Protocol):
    """A scheme that writes locations as numbers: NFP, IVB or DIGA."""

    @property
    def n_box(self) -> int:
        """Numbers that a box takes."""

    @property
    def n_point(self) -> int:
        """Numbers that a point takes."""

    def encode(self, values: Unit) -> list[float] | list[int]:
        """Frame coordinates, four of a box or two of a point, to the scheme's numbers."""

    def decode(self, numbers: Sequence[float]) -> Unit:
        """The inverse; numbers that `check` refuses may land outside [0, 1]."""

    def encode_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """`encode` for (K, 4) frame coordinates at once: (K, n_box)."""

    def decode_boxes(self, numbers: np.ndarray) -> np.ndarray:
        """`decode` for (K, n_box) numbers at once: (K, 4)."""

    def check(self, numbers: Sequence[float]) -> Problem | None:
        """Why `n_box` or `n_point` numbers are none of this scheme; None where they are."""

    def format(self, number: float) -> str:
        """One number as text."""
