"""Accuracy and consistency over questions that ask for one of two sides."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from locvlm.evaluation.bootstrap import Ratio, ratio

ALL = "all"


def by_side(correct: ArrayLike, gold: Sequence[str], sides: Sequence[str]) -> dict[str, Ratio]:
    """Accuracy over all questions, then over those whose gold answer is each side.

    A model that always answers "left" has 1.0 on one side and 0.0 on the other.

    Args:
        correct: (K,) whether each answer was judged right.
        gold: (K,) the right side of each question.
        sides: the sides to list, in this order.
    """
    right = np.asarray(correct, dtype=bool)
    named = np.asarray(gold, dtype=object)
    if right.shape != named.shape:
        raise ValueError(f"{right.size} judgements for {named.size} questions")
    return {ALL: ratio(right)} | {side: ratio(right, named == side) for side in sides}


def turned(first: Sequence[str | None], second: Sequence[str | None]) -> Ratio:
    """Share of pairs of answers that name opposite sides, as when the image was mirrored.

    Args:
        first: (K,) sides named; None where an answer names none, which is never consistent.
        second: (K,) likewise, to the changed question.
    """
    both = zip(first, second, strict=True)
    return ratio([None not in (one, other) and one != other for one, other in both])


def kept(first: Sequence[str | None], second: Sequence[str | None]) -> Ratio:
    """Share of pairs of answers that name the same side; arguments as in `turned`."""
    both = zip(first, second, strict=True)
    return ratio([one is not None and one == other for one, other in both])
