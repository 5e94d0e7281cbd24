"""Yes/no answers against the truth; "yes" is the positive class."""

from collections.abc import Sequence

import numpy as np

from locvlm.evaluation.bootstrap import Ratio, ratio


def accuracy(predicted: Sequence[bool], gold: Sequence[bool]) -> Ratio:
    """Share of right answers."""
    yes, true = _arrays(predicted, gold)
    return ratio(yes == true)


def precision(predicted: Sequence[bool], gold: Sequence[bool]) -> Ratio:
    """Share of "yes" answers that are right."""
    yes, true = _arrays(predicted, gold)
    return ratio(yes & true, yes)


def recall(predicted: Sequence[bool], gold: Sequence[bool]) -> Ratio:
    """Share of "yes" among items whose truth is yes."""
    yes, true = _arrays(predicted, gold)
    return ratio(yes & true, true)


def f1(predicted: Sequence[bool], gold: Sequence[bool]) -> Ratio:
    """Harmonic mean of precision and recall."""
    yes, true = _arrays(predicted, gold)
    return ratio(2 * (yes & true), yes.astype(int) + true)


def yes_ratio(predicted: Sequence[bool]) -> Ratio:
    """Share of "yes" among the answers, whatever the truth."""
    return ratio(np.asarray(predicted, dtype=bool))


def false_yes_rate(predicted: Sequence[bool], gold: Sequence[bool]) -> Ratio:
    """Share of "yes" among items whose truth is no."""
    yes, true = _arrays(predicted, gold)
    return ratio(yes & ~true, ~true)


def _arrays(predicted: Sequence[bool], gold: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    yes, true = np.asarray(predicted, dtype=bool), np.asarray(gold, dtype=bool)
    if yes.shape != true.shape:
        raise ValueError(f"{yes.size} answers for {true.size} truths")
    return yes, true
