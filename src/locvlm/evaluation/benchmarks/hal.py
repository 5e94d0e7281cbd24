"""Builds Hal-COCO, Hal-ADE and Hal-Act: is it there? `Pope` asks and scores them."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.asking import half_present, seeded
from locvlm.negatives import (
    AdversarialNegatives,
    Negatives,
    PopularNegatives,
    RandomNegatives,
    count_categories,
)
from locvlm.templates import fill_text
from locvlm.text import article

Strategy: TypeAlias = Literal["random", "popular", "adversarial"]
Shows: TypeAlias = Literal["image", "video"]
logger = logging.getLogger(__name__)


class Built(NamedTuple):
    """The contents of a file of questions, and what they were made from, by a short description."""

    questions: list[dict[str, Any]]
    counts: dict[str, int]


class Shown(NamedTuple):
    """What a file of annotations says.

    Args:
        classes: the names of all its classes, as they stand there.
        images: the classes that are in each image, by its file name.
        counts: records that could not be used, by reason.
    """

    classes: list[str]
    images: dict[str, set[str]]
    counts: dict[str, int]


def build_hal(
    instances: str,
    *,
    question: str,
    about: Shows = "image",
    per_image: int = 2,
    negatives: Strategy = "random",
    exclude: Mapping[str, Sequence[str]],
    seed: int = 0,
) -> Built:
    """Questions about present objects and as many about absent ones, in POPE's form.

    Args:
        instances: COCO-format JSON: instances, detections, or panoptic annotations. A class is
            called by what stands before the first comma of its name ("floor, flooring").
        question: template with {article}, {category} and {about}.
        about: image, or video: frames in one folder are one video, and show what one of them shows.
        per_image: present objects, and absent ones, for each image at most; one with fewer of one
            kind gives fewer of both.
        negatives: which absent objects: any, those that most images show, or those that are most
            often seen with the present ones.
        exclude: lists of names that are not asked about, whatever the lists are called; classes
            with one of them among their names are out.
        seed: of the choice.

    Raises:
        DataError: the file is no such JSON, or nothing can be asked.
        ConfigError: there is no such value of `about` or `negatives`, or `per_image` is below 1.

    Source: LocVLM, CVPR 2024, its hallucination sets; the questions themselves were not released.
    """
    _check(about, negatives, per_image)
    found = read_shown(instances)
    images = _by_folder(found.images, instances) if about == "video" else found.images
    out = {word for names in exclude.values() for name in names for word in _synonyms(name)}
    asked = {name for name in found.classes if not out & _synonyms(name)}
    draw = _negatives(negatives, sorted(asked), [shown & asked for shown in images.values()])
    alike = _alike(found.classes)
    chosen: list[tuple[str, str, bool]] = []
    for image, shown in images.items():
        rng = seeded(seed, image)
        there = {other for name in shown for other in alike[name]}
        half = half_present(sorted(shown & asked), draw(there, rng, per_image), per_image, rng)
        chosen += [(image, name, present) for name, present in half]
    if not chosen:
        raise DataError(
            f"nothing can be asked: {len(asked)} of {len(found.classes)} classes are left, in "
            f"{len(images)} {about}s",
            where=instances,
            fix="give annotations of several classes, or exclude fewer",
        )
    counts = {"questions": len(chosen), f"{about}s": len({image for image, _, _ in chosen})}
    left_out = {
        f"{about} without a present or an absent object": len(images) - counts[f"{about}s"],
        "class excluded": len(found.classes) - len(asked),
    }
    counts |= {"classes": len(asked), **found.counts}
    counts |= {f"left out: {why}": n for why, n in left_out.items() if n}
    return Built(list(_records(chosen, question, about)), counts)


def _check(about: Shows, negatives: Strategy, per_image: int) -> None:
    if about not in get_args(Shows) or negatives not in get_args(Strategy) or per_image < 1:
        raise ConfigError(
            f"this cannot be built: about={about}, negatives={negatives}, per_image={per_image}",
            fix=f"about is {' or '.join(get_args(Shows))}, negatives is "
            f"{' or '.join(get_args(Strategy))}, per_image is at least 1",
        )


def _records(
    chosen: Sequence[tuple[str, str, bool]], question: str, about: Shows
) -> Iterator[dict[str, Any]]:
    for number, (image, name, present) in enumerate(chosen, start=1):
        spoken = name.partition(",")[0].strip() or name
        text = fill_text(question, article=article(spoken), category=spoken, about=about)
        label = "yes" if present else "no"
        yield {"question_id": number, about: image, "text": text, "label": label}


def read_shown(file: str) -> Shown:
    """The classes in each image of a COCO-format file, instances or panoptic.

    Raises:
        DataError: the file is missing, malformed, or of another kind.
    """
    from locvlm.data.quarantine import Quarantine  # here: readers need torch, asking does not
    from locvlm.data.readers.coco_file import CocoFile
    from locvlm.data.readers.fields import is_id

    quarantine = Quarantine()
    table = CocoFile(file, "instances")
    names: dict[Any, str] = {}
    seen: defaultdict[Any, set[Any]] = defaultdict(set)
    for id_, annotation in table.annotations(("category_id", "segments_info"), quarantine, names):
        seen[id_].update(one for one in _categories(annotation) if is_id(one))
    images: dict[str, set[str]] = {}
    for record in table.images(None, quarantine):
        ids = seen[record["id"]]
        unknown = len(ids - names.keys())
        if unknown:
            error = DataError("unknown category id", where=f"{file}, image {record['id']}")
            quarantine.add(str(record["id"]), error)
        images[str(record["file_name"])] = {names[one] for one in ids & names.keys()}
    if quarantine.summary:
        logger.warning("%s: %s", file, quarantine.summary)
    return Shown(list(dict.fromkeys(names.values())), images, quarantine.reasons)


def _categories(record: Mapping[str, Any]) -> Iterator[Any]:
    """Ids of the classes that an annotation is about: of itself, or of its segments."""
    yield record.get("category_id")
    segments = record.get("segments_info")
    for segment in segments if isinstance(segments, list) else []:
        if isinstance(segment, dict):
            yield segment.get("category_id")


def _by_folder(images: Mapping[str, set[str]], file: str) -> dict[str, set[str]]:
    videos: dict[str, set[str]] = {}
    for name, shown in images.items():
        folder = str(PurePosixPath(name).parent)
        if folder == ".":
            raise DataError(
                f"the frame {name!r} stands in no folder",
                where=file,
                fix="give frames of a video names like v_abc/000001.jpg, or about=image",
            )
        videos.setdefault(folder, set()).update(shown)
    return videos


def _synonyms(name: str) -> set[str]:
    return {word.strip().lower() for word in name.split(",")}


def _alike(classes: Sequence[str]) -> dict[str, set[str]]:
    """The classes that share a name with each class: one is no absent object where another is."""
    of: defaultdict[str, set[str]] = defaultdict(set)
    for name in classes:
        for word in _synonyms(name):
            of[word].add(name)
    return {name: {other for word in _synonyms(name) for other in of[word]} for name in classes}


def _negatives(strategy: Strategy, names: list[str], images: Sequence[set[str]]) -> Negatives:
    if strategy == "random":
        return RandomNegatives(names)
    counts, pairs = count_categories(images)
    return (
        PopularNegatives(counts) if strategy == "popular" else AdversarialNegatives(counts, pairs)
    )
