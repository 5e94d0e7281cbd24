"""What spatial answers follow from: the same pair of objects put in other ways.

A model that sees where things are turns its answer when the image is mirrored or the names change
places. One that does not, answers by habit: its accuracy is that of a constant answer, or the one
that it has without seeing the image.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

from locvlm.evaluation.bootstrap import Ratio
from locvlm.evaluation.metrics.sides import kept, turned
from locvlm.spatial import SideFact, mirrored, swapped
from locvlm.types import View

Change: TypeAlias = Literal["", "mirrored", "swapped"]
CHANGES: tuple[Change, ...] = ("", "mirrored", "swapped")


class Way(NamedTuple):
    """One way to ask about a pair.

    Args:
        change: of the image or the question; empty: as it stands in the file.
        view: of the image.
        fact: what is true then.
        examples: likewise, to be worked before.
        part: of the benchmark itself, or of its diagnostics.
    """

    change: Change
    view: View
    fact: SideFact
    examples: tuple[SideFact, ...]
    part: Literal["benchmark", "diagnostics"]


def ways(
    fact: SideFact,
    examples: Sequence[SideFact],
    width: float,
    asked: Sequence[Change],
    *,
    diagnostics: bool,
) -> Iterator[Way]:
    """All ways to ask about a pair.

    Args:
        fact: what is true of it.
        examples: what is true of others.
        width: of the image in pixels.
        asked: the changes that are part of the benchmark itself.
        diagnostics: ask with the other changes as well, and all of the benchmark with grey images.
    """
    for change in CHANGES:
        one, *others = (_changed(each, change, width) for each in (fact, *examples))
        view: View = "mirrored" if change == "mirrored" else ""
        if change in asked:
            yield Way(change, view, one, tuple(others), "benchmark")
            if diagnostics:
                yield Way(change, "grey", one, (), "diagnostics")
        elif diagnostics:
            yield Way(change, view, one, (), "diagnostics")


def _changed(fact: SideFact, change: Change, width: float) -> SideFact:
    if change == "mirrored":
        return mirrored(fact, width)
    return swapped(fact) if change == "swapped" else fact


def consistency(
    named: Mapping[str, Mapping[Change, str | None]], change: Change, *, turns: bool
) -> tuple[list[str], Ratio]:
    """How often an answer follows a change of the image or the question.

    Args:
        named: the side that was named (None: none), by pair and change.
        change: mirrored or swapped.
        turns: whether the other side is right then, or the same one.

    Returns:
        The pairs that were asked about in both ways, and the share of consistent ones.
    """
    pairs = [pair for pair, by_change in named.items() if {"", change} <= by_change.keys()]
    before = [named[pair][""] for pair in pairs]
    after = [named[pair][change] for pair in pairs]
    return pairs, (turned if turns else kept)(before, after)
