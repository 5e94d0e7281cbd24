"""Questions from a benchmark's own files, about images in a folder."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from locvlm.errors import DataError
from locvlm.io import safe_member
from locvlm.types import Message, Part, Question, Sample, View

NAMED = 3  # images that a warning names
logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One question of a file.

    Args:
        id: that answers refer to.
        image: its file, below the folder of images.
        parts: of the question, as it is put to the model.
        meta: what the score needs to know.
        before: the conversation that the question ends, such as worked examples.
        candidates: closed answers; empty for free generation.
        view: what is done to the image; the view of an image is a sample of its own.
    """

    id: str
    image: str
    parts: tuple[Part, ...]
    meta: Mapping[str, Any]
    before: tuple[Message, ...] = ()
    candidates: tuple[str, ...] = ()
    view: View = ""


class Asked(NamedTuple):
    """The questions that can be asked, and how many cannot, by reason."""

    questions: list[Question]
    left_out: dict[str, int]


def to_questions(
    name: str, entries: Iterable[Entry], *, source: str, images: str | Path | None
) -> Asked:
    """Questions about images that are read when they are asked; equal images share a sample.

    Args:
        name: of the benchmark, with which the keys begin.
        entries: in the order of the file.
        source: the file, for messages.
        images: folder of the images; None for scoring recorded answers, which needs none.

    Raises:
        DataError: there is no entry, an image's name leaves its folder, or not a single image is
            there.
    """
    folder = None if images is None else Path(images)
    samples: dict[tuple[str, View], Sample] = {}
    checked: set[str] = set()
    left_out: Counter[str] = Counter()
    absent: dict[str, None] = {}
    found: dict[str, Question] = {}
    for entry in entries:
        if entry.id in found:
            left_out["id that came before"] += 1
            continue
        shown = entry.image, entry.view
        if shown not in samples:
            key = f"{entry.image}, {entry.view}" if entry.view else entry.image
            samples[shown] = Sample(key, source)
        if entry.image not in checked:
            checked.add(entry.image)
            if folder and not (folder / _checked(entry.image, source)).is_file():
                absent[entry.image] = None
        if entry.image in absent:
            left_out["image absent"] += 1
            continue
        found[entry.id] = Question(
            f"{name}/{entry.id}",
            samples[shown],
            (*entry.before, Message("user", entry.parts)),
            entry.candidates,
            meta={"id": entry.id, **entry.meta},
            image=str(folder / entry.image) if folder else "",
            view=entry.view,
        )
    if not found and not absent:
        raise DataError("there is no question in this file", where=source)
    if not found:
        raise DataError(
            f"not one of the {len(absent):,} images is in {folder}: {', '.join(list(absent)[:3])}",
            where=source,
            fix="give the folder that holds them as benchmark.images",
        )
    for reason, number in left_out.items():
        named = f": {', '.join(list(absent)[:NAMED])}" if reason == "image absent" else ""
        logger.warning("%s: %d questions left out, %s%s", source, number, reason, named)
    return Asked(list(found.values()), {f"left out: {why}": n for why, n in left_out.items()})


def _checked(name: str, source: str) -> str:
    if safe_member(name):
        return name
    raise DataError(f"the image name {name!r} leaves the folder of images", where=source)
