"""Which absent categories NegPred asks for: random, popular or adversarial by co-occurrence."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Protocol


class Negatives(Protocol):
    """Draws categories that are not in an image."""

    def __call__(self, present: set[str], rng: Random, n: int) -> list[str]:
        """Up to `n` different categories outside `present`."""


@dataclass(frozen=True, slots=True)
class RandomNegatives:
    """Any absent category, all as likely.

    Args:
        categories: all names of the data set.
    """

    categories: Sequence[str]

    def __call__(self, present: set[str], rng: Random, n: int) -> list[str]:
        absent = [name for name in self.categories if name not in present]
        return rng.sample(absent, min(n, len(absent)))


@dataclass(frozen=True, slots=True)
class PopularNegatives:
    """The absent categories that most images show (POPE's popular split).

    Args:
        counts: number of images that show each category.
    """

    counts: Counter[str]

    def __call__(self, present: set[str], rng: Random, n: int) -> list[str]:
        return _first(sorted(self.counts), self.counts, present, n)


@dataclass(frozen=True, slots=True)
class AdversarialNegatives:
    """The absent categories that most often occur with the present ones (POPE's adversarial).

    Args:
        counts: number of images that show each category.
        pairs: number of images that show both categories, for ordered pairs.
    """

    counts: Counter[str]
    pairs: Counter[tuple[str, str]]

    def __call__(self, present: set[str], rng: Random, n: int) -> list[str]:
        scores = Counter(
            {name: sum(self.pairs[shown, name] for shown in present) for name in self.counts}
        )
        return _first(sorted(self.counts), scores, present, n)


def count_categories(images: Iterable[set[str]]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Images that show each category, and images that show each ordered pair of categories."""
    counts: Counter[str] = Counter()
    pairs: Counter[tuple[str, str]] = Counter()
    for shown in images:
        counts.update(shown)
        pairs.update(permutations(sorted(shown), 2))
    return counts, pairs


def _first(names: list[str], scores: Counter[str], present: set[str], n: int) -> list[str]:
    absent = [name for name in names if name not in present]
    return sorted(absent, key=lambda name: -scores[name])[:n]
