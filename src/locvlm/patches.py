"""Boxes as labels of an encoder's patches, for training it to see what is where."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from locvlm.errors import ConfigError
from locvlm.types import Box, Size

BACKGROUND = 0


def patch_labels(
    boxes: Sequence[Box],
    labels: Sequence[int],
    *,
    size: Size,
    patch: int,
    min_cover: float = 0.3,
) -> NDArray[np.int64]:
    """The label of the box that covers most of each patch; 0 where none covers enough.

    Of two boxes that cover a patch equally, the smaller one counts.

    Args:
        boxes: in pixels of the frame; parts outside it are ignored.
        labels: one for each box, 1 or more, such as the index of its category plus 1.
        size: (width, height) of the frame in pixels.
        patch: side of a patch in pixels.
        min_cover: share of a patch that a box must cover.

    Returns:
        (height / patch, width / patch).

    Raises:
        ConfigError: the patches do not fill the frame.
    """
    width, height = size
    if width % patch or height % patch:
        raise ConfigError(
            f"patches of {patch} pixels do not fill a frame of {width} x {height}",
            fix="choose a patch size that divides both sides",
        )
    result = np.full((height // patch, width // patch), BACKGROUND, dtype=np.int64)
    if not boxes:
        return result
    corners = np.asarray(boxes, dtype=np.float64)
    areas = (corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)
    order = np.argsort(areas, kind="stable")
    corners, numbers = corners[order], np.asarray(labels, dtype=np.int64)[order]
    across = _overlap(corners[:, 0], corners[:, 2], width // patch, patch)
    down = _overlap(corners[:, 1], corners[:, 3], height // patch, patch)
    cover = down[:, :, None] * across[:, None, :]
    covered = cover.max(axis=0) >= min_cover
    result[covered] = numbers[cover.argmax(axis=0)][covered]
    return result


def _overlap(
    low: NDArray[np.float64], high: NDArray[np.float64], n: int, patch: int
) -> NDArray[np.float64]:
    """Share of each of `n` steps of `patch` pixels that lies between, (K, n)."""
    start = np.arange(n) * patch
    shared = np.minimum(high[:, None], start + patch) - np.maximum(low[:, None], start)
    return shared.clip(0) / patch
