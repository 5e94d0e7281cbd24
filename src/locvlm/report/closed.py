"""What answers that are one of few show beside right and wrong: what for what, and how surely."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Item = Mapping[str, Any]
BINS = 10
MOST = 12  # right answers of a set that is still closed
LIKELIHOOD = "By likelihood"  # items without a gallery


class Bin(NamedTuple):
    """Answers of alike confidence: how many, their mean confidence, the share that is right."""

    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How often answers are right that are so sure.

    Args:
        bins: equal ones from 0 to 1; None where no answer lies.
        error: expected calibration error, 0 to 1: by how much confidence and accuracy differ in a
            bin, averaged over answers.
    """

    bins: Sequence[Bin | None]
    error: float

    @property
    def n(self) -> int:
        """Answers with a confidence."""
        return sum(one.n for one in self.bins if one)


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often what was said for what.

    Args:
        title: which questions.
        wanted: right answers, in the order of the alphabet.
        said: likewise; the right answers come first.
        counts: of questions by (wanted, said).
    """

    title: str
    wanted: Sequence[str]
    said: Sequence[str]
    counts: Mapping[tuple[str, str], int]

    def share(self, wanted: str, said: str) -> float:
        """Of the questions with this right answer, 0 to 1."""
        total = sum(count for (of, _), count in self.counts.items() if of == wanted)
        return self.counts.get((wanted, said), 0) / total


def reliability(items: Sequence[Item]) -> Reliability | None:
    """Of the items that have a confidence; None where none has.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    sure = [item for item in items if item.get("confidence") is not None]
    if not sure:
        return None
    members: list[list[Item]] = [[] for _ in range(BINS)]
    for item in sure:
        members[min(BINS - 1, int(BINS * item["confidence"]))].append(item)
    bins = [_bin(alike) if alike else None for alike in members]
    gaps = (one.n * abs(one.confidence - one.accuracy) for one in bins if one)
    return Reliability(bins, sum(gaps) / len(sure))


def confusions(items: Sequence[Item]) -> list[Confusion]:
    """One for each gallery whose answers are one of few."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        if item.get("said"):
            groups.setdefault(item["group"] or LIKELIHOOD, []).append(item)
    found = []
    for title, members in groups.items():
        wanted = sorted({item["wanted"] for item in members})
        if 1 < len(wanted) <= MOST:
            columns = [*wanted, *sorted({item["said"] for item in members} - {*wanted})]
            counts = Counter((item["wanted"], item["said"]) for item in members)
            found.append(Confusion(title, wanted, columns, counts))
    return found


def _bin(items: Sequence[Item]) -> Bin:
    n = len(items)
    return Bin(
        n, sum(item["confidence"] for item in items) / n, sum(item["score"] for item in items) / n
    )
