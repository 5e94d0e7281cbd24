"""One self-contained HTML page for a run: numbers, intervals, and pictures, failures first."""

import io
import json
import warnings
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from locvlm.report.closed import Confusion, Reliability, confusions, reliability
from locvlm.report.draw import COLORS, draw_marks
from locvlm.report.plots import histogram, interval_bar, reliability_plot
from locvlm.report.tables import Table, interval, percent, tables

Item = Mapping[str, Any]
PER_OUTCOME = 8
PICTURE = 480  # pixels of the longer side; shown at half of it on sharp screens


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of a gallery: `source` is a data URI, empty where there is no image."""

    item: Item
    source: str
    roles: Sequence[str]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Some of the items of a group, failures first.

    Args:
        title: the group.
        outcomes: how many items of the whole group ended in each, the worst first.
        cards: up to `PER_OUTCOME` of each outcome, in the same order.
    """

    title: str
    outcomes: Sequence[tuple[str, int]]
    cards: Sequence[Card]

    @property
    def total(self) -> int:
        """Items of the whole group."""
        return sum(count for _, count in self.outcomes)


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the benchmark: its tables, what its closed answers show, then its pictures."""

    name: str
    tables: Sequence[Table]
    galleries: Sequence[Gallery]
    reliability: Reliability | None = None
    confusions: Sequence[Confusion] = ()


def render_page(
    results: Mapping[str, Any], items: Sequence[Item], image_of: Callable[[str], bytes | None]
) -> str:
    """The page as text. It opens from disk and loads nothing from anywhere.

    Args:
        results: of one run, as in results.json.
        items: every question of the run, as in items.jsonl.
        image_of: the encoded image of an item's `image`.
    """
    template = page_environment().get_template("page.html.j2")
    return template.render(
        results=results,
        headlines=[metric for metric in results["metrics"] if metric["headline"]],
        sections=sections(results, items, image_of),
        facts=json.dumps(
            {key: value for key, value in results.items() if key not in ("metrics", "histograms")},
            indent=2,
            ensure_ascii=False,
        ),
    )


def page_environment() -> Environment:
    """Renders templates of pages that open from disk and load nothing."""
    environment = Environment(
        loader=PackageLoader("locvlm", "report"),
        autoescape=True,  # answers are a model's: they may hold any text, tags too
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"percent": percent, "interval": interval, "colors": COLORS}
    environment.globals |= {"bar": _bar, "histogram": histogram}
    environment.globals |= {"reliability_plot": reliability_plot}
    return environment


def sections(
    results: Mapping[str, Any], items: Sequence[Item], image_of: Callable[[str], bytes | None]
) -> list[Section]:
    """Tables and galleries by the part of the benchmark that their keys begin with."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for metric in results["metrics"]:
        parts.setdefault(metric["key"].split(".")[0], []).append(metric)
    of: dict[str, list[Item]] = {part: [] for part in parts}
    for item in items:
        of.setdefault(item["key"].split("/")[0], []).append(item)
    return [
        Section(
            part,
            tables(metrics),
            galleries(of[part], image_of),
            reliability(of[part]),
            confusions(of[part]),
        )
        for part, metrics in parts.items()
    ]


def galleries(items: Sequence[Item], image_of: Callable[[str], bytes | None]) -> list[Gallery]:
    """Every group with its worst outcome first; which items of an outcome are shown is random."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        if item["group"]:
            groups.setdefault(item["group"], []).append(item)
    found = []
    for title, members in groups.items():
        counts = Counter(item["outcome"] for item in members)
        mean = {
            outcome: sum(item["score"] for item in members if item["outcome"] == outcome) / count
            for outcome, count in counts.items()
        }
        order = sorted(counts, key=lambda outcome: (mean[outcome], -counts[outcome]))
        cards = []
        for outcome in order:
            alike = [item for item in members if item["outcome"] == outcome]
            chosen = Random(0).sample(alike, min(PER_OUTCOME, len(alike)))
            chosen.sort(key=lambda item: item["score"])
            cards += [_card(item, image_of(item["image"])) for item in chosen]
        found.append(Gallery(title, [(outcome, counts[outcome]) for outcome in order], cards))
    return found


def _card(item: Item, data: bytes | None) -> Card:
    roles = [role for role in COLORS if any(mark["role"] == role for mark in item["marks"])]
    if data is None:
        return Card(item, "", roles)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata is no news: the model has read the image
        with Image.open(io.BytesIO(data)) as image:
            return Card(item, drawn(image, item["marks"]), roles)


def drawn(image: Image.Image, marks: Sequence[Mapping[str, Any]]) -> str:
    """The image with its marks, small, as a data URI."""
    stream = io.BytesIO()
    draw_marks(image, marks, max_side=PICTURE, bold=1.7).save(stream, "WEBP", quality=86)
    return f"data:image/webp;base64,{b64encode(stream.getvalue()).decode()}"


def _bar(metric: Mapping[str, Any]) -> str:
    if metric["low"] is None:  # nothing counted, or too few images for an interval
        return ""
    return interval_bar(metric["value"], metric["low"], metric["high"], metric.get("chance"))
