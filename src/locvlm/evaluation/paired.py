"""Two runs on the same questions: how far apart they are, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locvlm.errors import DataError
from locvlm.evaluation.bootstrap import (
    Estimate,
    binomial_bound,
    by_cluster,
    percentiles,
    ratio,
    resample,
)

Item = Mapping[str, Any]
ALPHA = 0.05
RIGHT = 0.5  # from this score on an answer is called right
ALL = "all questions"
OUTCOMES = ("both right", "only A right", "only B right", "both wrong")


class Mean(NamedTuple):
    """A mean score, and of how many questions."""

    value: float
    n: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Run A and run B on the questions that both answered.

    Args:
        a: mean score of A, 0 to 1.
        b: likewise.
        difference: a - b, with the interval of resampled images.
        p: two-sided, from the same resampling.
        p_mcnemar: exact, where all scores are 0 or 1; else None. It takes questions to be
            independent, also those about one image.
        outcomes: how many questions ended in each of `OUTCOMES`.
        only_a: keys of questions that only A answered; they are left out.
        only_b: likewise.
        unlike: keys that stand for questions with different right answers; left out as well.
        whole_a: of all that A answered, also what is left out here.
        whole_b: likewise.
    """

    a: float
    b: float
    difference: Estimate
    p: float
    p_mcnemar: float | None
    outcomes: Mapping[str, int]
    only_a: Sequence[str] = ()
    only_b: Sequence[str] = ()
    unlike: Sequence[str] = ()
    whole_a: Mean = Mean(0.0, 0)
    whole_b: Mean = Mean(0.0, 0)

    @property
    def is_significant(self) -> bool:
        """Whether chance alone would rarely make two runs so different."""
        return self.p < ALPHA


def joined(a: Sequence[Item], b: Sequence[Item]) -> list[tuple[Item, Item]]:
    """The items of both runs that are about the same question, in the order of A."""
    of_b = {item["key"]: item for item in b}
    pairs = [(item, of_b[item["key"]]) for item in a if item["key"] in of_b]
    return [(first, second) for first, second in pairs if first["wanted"] == second["wanted"]]


def compare(a: Sequence[Item], b: Sequence[Item], seed: int = 0) -> Paired:
    """What two runs have to do with each other, question by question.

    Images are drawn with replacement, with all their questions and both runs' answers to them.

    Args:
        a: items of a run, as in items.jsonl.
        b: of another one.
        seed: of the resampling.

    Raises:
        DataError: they share no question.
    """
    pairs = joined(a, b)
    keys_a, keys_b = {item["key"] for item in a}, {item["key"] for item in b}
    if not pairs:
        raise DataError(
            f"no question is in both runs, of {len(keys_a):,} and {len(keys_b):,}",
            fix="compare runs of one benchmark and split",
        )
    scores = np.array([[one["score"], other["score"]] for one, other in pairs], dtype=np.float64)
    difference, p = _difference(scores, [str(one["image"]) for one, _ in pairs], seed)
    counts = dict.fromkeys(OUTCOMES, 0)
    for one, other in pairs:
        counts[outcome(one, other)] += 1
    is_binary = bool(np.isin(scores, (0, 1)).all())
    return Paired(
        float(scores[:, 0].mean()),
        float(scores[:, 1].mean()),
        difference,
        p,
        mcnemar(counts["only A right"], counts["only B right"]) if is_binary else None,
        counts,
        sorted(keys_a - keys_b),
        sorted(keys_b - keys_a),
        sorted((keys_a & keys_b) - {one["key"] for one, _ in pairs}),
        _mean(a),
        _mean(b),
    )


def compare_parts(a: Sequence[Item], b: Sequence[Item], seed: int = 0) -> dict[str, Paired]:
    """`compare` for all questions, and for each part and each group where there are several.

    Raises:
        DataError: the runs share no question.
    """
    found = {ALL: compare(a, b, seed)}
    of_b = _parts(b)
    for name, members in _parts(a).items():
        if len(members) < len(a) and joined(members, of_b.get(name, ())):
            found[name] = compare(members, of_b[name], seed)
    return found


def _mean(items: Sequence[Item]) -> Mean:
    return Mean(sum(item["score"] for item in items) / len(items), len(items))


def _parts(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items by the part that their keys begin with, and by part and gallery."""
    found: dict[str, list[Item]] = {}
    for item in items:
        part = item["key"].partition("/")[0]
        found.setdefault(part, []).append(item)
        if item["group"]:
            found.setdefault(f"{part}: {item['group']}", []).append(item)
    return found


def outcome(a: Item, b: Item) -> str:
    """Which of `OUTCOMES` a pair of items is."""
    return OUTCOMES[2 * (a["score"] < RIGHT) + (b["score"] < RIGHT)]


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p of McNemar's test: how often a fair coin falls as unevenly.

    Args:
        only_a: questions that only A has right.
        only_b: likewise.

    >>> mcnemar(0, 5), mcnemar(3, 3)
    (0.0625, 1.0)
    """
    n, fewer = only_a + only_b, min(only_a, only_b)
    ways = total = 1
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / 2**n)


def _difference(
    scores: NDArray[np.float64], images: Sequence[str], seed: int
) -> tuple[Estimate, float]:
    """The mean difference with its interval, and its p."""
    apart = ratio(scores[:, 0] - scores[:, 1])
    above, below = by_cluster(apart, images)
    n = len(above)
    if not above.any():
        far = 1 - binomial_bound(n)  # no image of n differs: so many still could
        return Estimate(0.0, -far, far, apart.n), 1.0
    drawn = resample(above, below, np.random.default_rng(seed))
    low, high = percentiles(drawn)
    beyond = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p = min(1.0, 2 * (1 + int(beyond)) / (1 + len(drawn)))
    # Resampling few images is too sure: n that differ are never surer than n coins that all fall
    # on one side.
    n_apart = int(np.count_nonzero(above))
    return Estimate(apart.value, low, high, apart.n), max(p, 2.0 ** (1 - n_apart))
