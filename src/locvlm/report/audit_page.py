"""The page of an audit: warnings, figures, and samples drawn with their boxes and their text."""

import io
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from locvlm.data import Draw, Examples
from locvlm.data.split_audit import Audit
from locvlm.data.verdict import Finding
from locvlm.errors import DataError
from locvlm.images import decode_image
from locvlm.report.audit import headlines, tables
from locvlm.report.draw import COLORS, draw_marks
from locvlm.types import Location, Message, Sample

# Whose locations have which colour; annotated boxes are dashed, so that others show below them.
ROLES = {"annotated": "true", "user": "asked", "assistant": "predicted"}
PICTURE = 720  # pixels of the longer side; shown at about half of it on sharp screens
MOST_TURNS = 12
PER_PROBLEM = 3  # samples of each source; others show what is usual in it


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample to show, as the model gets it.

    Args:
        sample: locations in pixels of its image.
        messages: the conversation about it.
        source: key of its source in the config.
        problems: what is wrong with it, in words.
    """

    sample: Sample
    messages: Sequence[Message]
    source: str
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of a turn, or a location with the number that it has in the picture."""

    text: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A sample as the page needs it; `picture` is a data URI, empty where there is no image."""

    shown: Shown
    picture: str
    problems: Sequence[str]
    turns: Sequence[tuple[str, Sequence[Piece]]]
    n_left_out: int


def render_page(audit: Audit, warnings: Sequence[Finding], samples: Sequence[Shown]) -> str:
    """The page as text. It opens from disk and loads nothing from anywhere.

    Args:
        audit: whose figures it holds.
        warnings: the worst first.
        samples: those with problems are shown first.
    """
    environment = Environment(
        loader=PackageLoader("locvlm", "report"),
        autoescape=True,  # data may hold any text, tags too
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ordered = sorted(samples, key=lambda shown: not shown.problems)
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        warnings=warnings,
        headlines=headlines(audit),
        tables=tables(audit),
        cards=[card(shown) for shown in ordered],
        colors={role: COLORS[color] for role, color in ROLES.items()},
    )


def samples_to_show(examples: Examples, audit: Audit, draws: Sequence[Draw]) -> list[Shown]:
    """A few samples with each problem, then those at `draws`, each once.

    Args:
        examples: of the split that was audited.
        audit: names the problems.
        draws: shown are as many samples as these.
    """
    problems: dict[Draw, list[str]] = {}
    for number, source in enumerate(audit.sources):
        for problem, named in source.survey.examples.items():
            for one in named[:PER_PROBLEM]:
                place = Draw(number, one.position, 0)
                problems.setdefault(place, []).append(f"{problem}: {one.what}")
    places: dict[tuple[int, int], Draw] = {}
    for draw in [*problems, *draws]:
        places.setdefault((draw.source, draw.sample), draw)
    shown: list[Shown] = []
    for place in places.values():
        if len(shown) == len(draws):
            break
        try:
            sample, messages = examples.sample(place)
        except DataError:
            continue
        name = audit.sources[place.source].name
        shown.append(Shown(sample, messages, name, problems.get(place, ())))
    return shown


def card(shown: Shown) -> Card:
    """A sample with its picture; locations are numbered in the order of the conversation."""
    turns, located = _turns(shown.messages)
    marks = [
        {"role": ROLES[role], "location": location, "label": str(number)}
        for number, (role, location) in enumerate(located, start=1)
    ]
    marks += [
        {
            "role": ROLES["annotated"],
            "location": instance.box,
            "label": (instance.description or instance.category) + " (crowd)" * instance.crowd,
        }
        for instance in shown.sample.instances
    ]
    problems = list(shown.problems)
    try:
        picture = _picture(shown.sample, marks)
    except DataError as error:
        picture = ""
        if error.what not in " ".join(problems):
            problems.append(error.what)
    return Card(shown, picture, problems, turns[:MOST_TURNS], max(0, len(turns) - MOST_TURNS))


def _turns(
    messages: Sequence[Message],
) -> tuple[list[tuple[str, list[Piece]]], list[tuple[str, Location]]]:
    """Messages in pieces, and the locations in them with the role of their speaker."""
    turns: list[tuple[str, list[Piece]]] = []
    located: list[tuple[str, Location]] = []
    for message in messages:
        pieces = []
        for part in message.parts:
            if isinstance(part, str):
                pieces.append(Piece(part))
            else:
                located.append((message.role, part))
                values = ", ".join(f"{value:.6g}" for value in part)
                pieces.append(Piece(values, len(located)))
        turns.append((message.role, pieces))
    return turns, located


def _picture(sample: Sample, marks: Sequence[Mapping[str, Any]]) -> str:
    if sample.image is None:
        return ""
    pixels = decode_image(sample.image, sample.source).permute(1, 2, 0).numpy()
    picture = draw_marks(Image.fromarray(pixels), marks, max_side=PICTURE, bold=1.2)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=84)
    return f"data:image/webp;base64,{b64encode(stream.getvalue()).decode()}"
