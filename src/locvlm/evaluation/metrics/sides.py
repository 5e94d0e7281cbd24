"""Accuracy over questions that ask for one of two sides."""

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
