"""Overlap of boxes, and what localization is measured by."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locvlm.evaluation.bootstrap import Ratio, ratio
from locvlm.types import Box

Floats = NDArray[np.float64]


def iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of boxes, pair by pair.

    A box without area, or with its corners in the wrong order, overlaps nothing: 0.

    Args:
        a: (K, 4) corners x1, y1, x2, y2 in any one unit.
        b: (K, 4) likewise.

    Returns:
        (K,) 0 to 1.
    """
    first, second = _corners(a), _corners(b)
    if len(first) != len(second):
        raise ValueError(f"{len(first)} boxes against {len(second)}")
    return _overlap(first, second)


def iou_matrix(a: ArrayLike, b: ArrayLike) -> Floats:
    """(M, K) intersection over union of each of M boxes with each of K."""
    return _overlap(_corners(a)[:, None], _corners(b)[None])


def best_iou(box: Box | None, others: Sequence[Box]) -> float:
    """Overlap of `box` with the one of `others` that it fits best; 0 without either."""
    if box is None or not others:
        return 0.0
    return float(iou_matrix([box], others).max())


def paired_iou(predicted: Sequence[Box | None], true: Sequence[Box]) -> Floats:
    """(K,) overlap of each predicted box with its true one; no box counts as 0."""
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} predictions for {len(true)} boxes")
    # A box without area overlaps nothing.
    return iou([box or (0, 0, 0, 0) for box in predicted], true)


def accuracy_at(overlaps: ArrayLike, threshold: float = 0.5) -> Ratio:
    """Share of items whose overlap reaches `threshold`, inclusive."""
    return ratio(np.asarray(overlaps, dtype=np.float64) >= threshold)


def _corners(boxes: ArrayLike) -> Floats:
    return np.asarray(boxes, dtype=np.float64).reshape(-1, 4)


def _overlap(a: Floats, b: Floats) -> Floats:
    # Column by column: numpy reduces over a last axis of 2 far more slowly.
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = _area(a) + _area(b) - shared
    with np.errstate(divide="ignore", invalid="ignore"):
        # The areas are 0 or more, so a union of 0 means that there is nothing to share.
        return np.where(union > 0, shared / union, 0.0)


def _area(boxes: Floats) -> Floats:
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.maximum(width, 0.0) * np.maximum(height, 0.0)
