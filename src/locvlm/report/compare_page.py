"""One self-contained HTML page for many runs: tables, intervals, and questions they disagree on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from locvlm.errors import DataError
from locvlm.io import safe_member
from locvlm.report.compared import Column, Comparison
from locvlm.report.compared_text import (
    ARROWS,
    kind_text,
    n_text,
    name_text,
    notes,
    paired_rows,
    value_text,
)
from locvlm.report.html import PER_OUTCOME, drawn, page_environment
from locvlm.report.plots import forest

Item = Mapping[str, Any]
PLOTS = 4  # columns of a table that are plotted
# Where runs disagree comes first.
ORDER = ("only A right", "only B right", "both wrong", "both right")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs on the questions that both answered.

    Args:
        benchmark: its name.
        a: name of a run.
        b: name of the other one.
        questions: outcome of a question, such as "only A right", and both runs' items.
    """

    benchmark: str
    a: str
    b: str
    questions: Sequence[tuple[str, Item, Item]]


@dataclass(frozen=True, slots=True)
class Card:
    """A question with both answers; `source` is a data URI, empty where there is no image."""

    outcome: str
    a: Item
    b: Item
    source: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Some questions of a pair.

    Args:
        benchmark: its name.
        a: name of a run.
        b: name of the other one.
        outcomes: how many of all its questions ended in each.
        cards: up to `PER_OUTCOME` of each outcome.
    """

    benchmark: str
    a: str
    b: str
    outcomes: Sequence[tuple[str, int]]
    cards: Sequence[Card]

    @property
    def total(self) -> int:
        """Questions that both answered."""
        return sum(count for _, count in self.outcomes)


def render_page(title: str, tables: Sequence[Comparison], galleries: Sequence[Gallery]) -> str:
    """The page as text. It opens from disk and loads nothing from anywhere.

    Args:
        title: of the page.
        tables: published ones and those of benchmarks.
        galleries: runs side by side.
    """
    environment = page_environment()
    environment.globals |= {"value_text": value_text, "name_text": name_text, "n_text": n_text}
    environment.globals |= {"kind_text": kind_text, "notes": notes, "paired_rows": paired_rows}
    environment.globals |= {"plots": plots, "ARROWS": ARROWS}
    return environment.get_template("compare.html.j2").render(
        title=title,
        papers=[table for table in tables if table.source],
        tables=[table for table in tables if not table.source],
        galleries=[gallery for gallery in galleries if gallery.cards],
    )


def plots(table: Comparison) -> Sequence[tuple[Column, str]]:
    """The first columns, each with its plot of all runs; none where there is but one run."""
    found = []
    for number, column in enumerate(table.columns):
        rows = [
            (line.name, cell.metric["value"], cell.metric["low"], cell.metric["high"])
            for line in table.lines
            if (cell := line.cells[number]) and cell.metric["low"] is not None
        ]
        if len(rows) > 1:
            found.append((column, forest(rows)))
    return found[:PLOTS]


def gallery(pair: Pair, images: Sequence[Path] = ()) -> Gallery:
    """Questions of a pair by outcome; which ones are shown of each is random, and the same again.

    Args:
        pair: the runs.
        images: folders in which images are looked for.
    """
    counts = Counter(outcome for outcome, _, _ in pair.questions)
    cards = []
    for wanted in ORDER:
        alike = [(a, b) for outcome, a, b in pair.questions if outcome == wanted]
        for a, b in Random(0).sample(alike, min(PER_OUTCOME, len(alike))):
            cards.append(Card(wanted, a, b, _picture(a, b, images)))
    outcomes = [(name, counts[name]) for name in ORDER if counts[name]]
    return Gallery(pair.benchmark, pair.a, pair.b, outcomes, cards)


def _picture(a: Item, b: Item, images: Sequence[Path]) -> str:
    """The image of a question as a data URI, with the boxes of both answers; or empty."""
    name = a["image"]
    files = [folder / name for folder in images] if safe_member(name) else []
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return ""
    from PIL import Image

    from locvlm.images import decode_image  # here: it needs torch, which tables do without

    try:
        pixels = decode_image(file.read_bytes(), str(file)).permute(1, 2, 0).numpy()
    except (DataError, OSError):
        return ""
    marks = [mark for mark in a.get("marks", ()) if mark["role"] != "predicted"]
    for letter, item in (("A", a), ("B", b)):
        said = [mark for mark in item.get("marks", ()) if mark["role"] == "predicted"]
        marks += [{**mark, "label": letter} for mark in said]
    return drawn(Image.fromarray(pixels), marks)
