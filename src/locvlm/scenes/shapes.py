"""The shapes of the built-in world, as anti-aliased masks that fill their boxes exactly."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.float64]
Inside = Callable[[Grid, Grid], NDArray[np.bool_]]
# Samples per pixel and axis: fine enough for the tip of a star to leave a trace in its own pixel
_SAMPLES = 8


def _polygon(points: NDArray[np.float64]) -> Inside:
    """Inside a polygon, by crossing number, once it is stretched to touch all four sides."""
    low, high = points.min(axis=0), points.max(axis=0)
    corners = (points - low) / (high - low) * 2 - 1

    def inside(x: Grid, y: Grid) -> NDArray[np.bool_]:
        result = np.zeros(np.broadcast(x, y).shape, dtype=bool)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y1 != y2:
                crossing = x1 + (y - y1) * (x2 - x1) / (y2 - y1)
                result ^= ((y1 > y) != (y2 > y)) & (x < crossing)
        return result

    return inside


def _star(points: int = 5, waist: float = 0.45) -> NDArray[np.float64]:
    turn = np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2, waist, 1.0)
    return np.stack([radius * np.sin(turn), -radius * np.cos(turn)], axis=1)


def _heart(points: int = 64) -> NDArray[np.float64]:
    turn = np.arange(points) * 2 * np.pi / points
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([16 * np.sin(turn) ** 3, -y], axis=1)


# Whether points of the square from -1 to 1, y downwards, belong to the shape of this name
SHAPES: Mapping[str, Inside] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: (abs(x) <= 1) & (abs(y) <= 1),
    "triangle": lambda x, y: abs(x) <= (y + 1) / 2,
    "star": _polygon(_star()),
    "cross": lambda x, y: (abs(x) <= 1 / 3) | (abs(y) <= 1 / 3),
    "ring": lambda x, y: (x**2 + y**2 <= 1) & (x**2 + y**2 >= 0.55**2),
    "diamond": lambda x, y: abs(x) + abs(y) <= 1,
    "heart": _polygon(_heart()),
}


@lru_cache(maxsize=4096)
def mask(shape: str, side: int) -> NDArray[np.float32]:
    """How much of each pixel the shape covers, (side, side), 0 to 1; read-only.

    Its first and last row and column are never empty: the box is the extent of what is drawn.
    """
    steps = (np.arange(side * _SAMPLES) + 0.5) / (side * _SAMPLES) * 2 - 1
    inside = np.broadcast_to(SHAPES[shape](steps[None], steps[:, None]), (len(steps),) * 2)
    cover = inside.reshape(side, _SAMPLES, side, _SAMPLES).mean(axis=(1, 3), dtype=np.float32)
    cover.flags.writeable = False
    return cover
