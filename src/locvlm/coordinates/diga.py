"""DIGA, deviation from image-grid anchors: the nearest anchor and integer distances from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from locvlm.coordinates.ivb import IVB
from locvlm.coordinates.scheme import Problem
from locvlm.errors import ConfigError
from locvlm.types import Unit


@dataclass(frozen=True, slots=True)
class DIGA:
    """Writes a location as the anchor (p, q) nearest to its centre and deviations from it.

    The grid has g = bins / cell cells a side, anchors at cell centres; p is the column, q the row.
    A box is [p, q, left, top, right, bottom], the distances of its edges from the anchor in bins
    (negative where the anchor lies outside); a point is [p, q, dx, dy]. Decoding recovers the
    integers of `IVB` with as many bins exactly.

    Args:
        bins: intervals per side, as in `IVB`.
        cell: bins per side of a grid cell; 14, the patch size of CLIP ViT-L/14, in the paper.

    Raises:
        ConfigError: `bins` is not a positive multiple of an even `cell`.

    Source: LocVLM, CVPR 2024, section 3 (coordinate representations).
    """

    bins: int
    cell: int = 14

    def __post_init__(self) -> None:
        if self.cell < 2 or self.cell % 2 or self.bins < self.cell or self.bins % self.cell:
            raise ConfigError(
                f"{self.bins} bins do not divide into cells of {self.cell}",
                where="coordinates.bins, coordinates.cell",
                fix="choose bins as a multiple of an even cell, such as 224 and 14, or 64 and 8",
            )

    @property
    def n_box(self) -> int:
        return 6

    @property
    def n_point(self) -> int:
        return 4

    @property
    def grid(self) -> int:
        """Cells per side."""
        return self.bins // self.cell

    def encode(self, values: Unit) -> list[int]:
        """A box to [p, q, left, top, right, bottom], a point to [p, q, dx, dy]."""
        # The first and the last pair of values: the corners of a box, a point twice.
        p, q = (
            self._cell((first + last) / 2 * self.bins)
            for first, last in zip(values[:2], values[-2:], strict=True)
        )
        ax, ay = self._anchor(p), self._anchor(q)
        edges = IVB(self.bins).encode(values)
        if len(edges) == 2:
            return [p, q, edges[0] - ax, edges[1] - ay]
        return [p, q, ax - edges[0], ay - edges[1], edges[2] - ax, edges[3] - ay]

    def decode(self, numbers: Sequence[float]) -> Unit:
        """The inverse: six numbers give a box, four a point."""
        return IVB(self.bins).decode(self._edges(numbers))

    def encode_boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(K, 4) frame coordinates to (K, 6) int64."""
        boxes = np.asarray(boxes, dtype=np.float64)
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 * self.bins
        cells = np.clip(np.floor(centre / self.cell), 0, self.grid - 1).astype(np.int64)
        anchors = cells * self.cell + self.cell // 2
        edges = IVB(self.bins).encode_boxes(boxes)
        return np.hstack([cells, anchors - edges[:, :2], edges[:, 2:] - anchors])

    def decode_boxes(self, numbers: np.ndarray) -> np.ndarray:
        """(K, 6) numbers to (K, 4) frame coordinates."""
        numbers = np.asarray(numbers)
        anchors = numbers[:, :2] * self.cell + self.cell // 2
        edges = np.hstack([anchors - numbers[:, 2:4], anchors + numbers[:, 4:]])
        return IVB(self.bins).decode_boxes(edges)

    def check(self, numbers: Sequence[float]) -> Problem | None:
        """The anchor must exist, and all edges must be integers in 0..`bins`."""
        anchor = numbers[:2]
        if not all(0 <= number < self.grid for number in anchor):
            return "out of range"
        if any(number % 1 for number in anchor):
            return "not integers"
        return IVB(self.bins).check(self._edges(numbers))

    def format(self, number: float) -> str:
        """An integer, with a minus sign where negative."""
        return str(int(number))

    def _cell(self, value: float) -> int:
        return min(max(floor(value / self.cell), 0), self.grid - 1)

    def _anchor(self, cell: int) -> int:
        return cell * self.cell + self.cell // 2

    def _edges(self, numbers: Sequence[float]) -> list[float]:
        ax, ay = self._anchor(int(numbers[0])), self._anchor(int(numbers[1]))
        if len(numbers) == 4:
            return [ax + numbers[2], ay + numbers[3]]
        return [ax - numbers[2], ay - numbers[3], ax + numbers[4], ay + numbers[5]]
