"""Builds COCO-Spatial's file of questions, in the paper's form or the released one."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar, get_args

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco_file import CocoFile, Record
from locvlm.data.readers.fields import Id
from locvlm.data.readers.grouped import Grouped, grouped
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.coco_spatial_file import PAPER_FORMAT, PAPER_VERSION, Variant
from locvlm.evaluation.benchmarks.coco_spatial_forms import (
    AnnotatedImage,
    is_finite,
    paper_question,
    released_record,
    usable_instances,
)
from locvlm.io import sha256
from locvlm.json_stream import iter_json
from locvlm.spatial import SIDES, Axis

T = TypeVar("T")
# What an annotation of the released file has: all that COCO's has, but for the polygons.
_FIELDS = ("area", "iscrowd", "image_id", "bbox", "category_id", "id")
_SEGMENTS = "segments_info"  # of a panoptic annotation: its objects
logger = logging.getLogger(__name__)


class Built(NamedTuple):
    """A file's contents, and how many there are of what."""

    content: dict[str, Any]
    counts: dict[str, int]


def build(
    instances: str | Path,
    variant: Variant,
    axis: Axis | None = None,
    limit: int = 0,
    seed: int = 0,
) -> Built:
    """The questions that a COCO-format file gives rise to; it is read in a stream.

    Args:
        instances: the file: images with their sizes, annotations, categories. Or panoptic
            annotations, of which things count as objects, and stuff (sky, grass) does not.
        variant: `paper`: three objects of an image, each of a category of its own and on one side
            of the image, not all on the same one. `released`: pairs of such objects of which one
            ends before the other begins, in the JSON of the authors' release; as there, a crowd
            counts as one object, and images without a pair are kept.
        axis: `horizontal` or `vertical`; None is both for the paper's, left and right for the
            released one.
        limit: of questions for each axis (paper) or of images with a pair (released), drawn from
            all; 0 keeps all.
        seed: of the drawing, and of the choice among more than three objects.

    Raises:
        ConfigError: there is no such variant or axis.
        DataError: this is no COCO-format file, or no image qualifies.
    """
    _check(variant, axis)
    quarantine = Quarantine()
    names: dict[Any, str] = {}
    counts: Counter[str] = Counter()
    file = CocoFile(str(instances), "instances")
    read = file.annotations((*_FIELDS, _SEGMENTS), quarantine, names)
    with grouped(_objects(read, counts, str(instances))) as annotations:
        stuff = _stuff(instances) if counts["segments"] else []
        images = _images(file, annotations, stuff, counts, quarantine)
        if variant == "paper":
            axes = [axis] if axis else list(SIDES)
            found = _questions(images, names, axes, seed, quarantine)
            questions = [one for of_axis in found.values() for one in _drawn(of_axis, limit, seed)]
            content = _paper(questions, Path(instances), seed)
            counts.update(f"questions, {one['axis']}" for one in questions)
        else:
            records = _records(images, names, axis or "horizontal", quarantine)
            if limit:
                paired = [key for key, record in records.items() if "good_pairs" in record]
                records = {key: records[key] for key in _drawn(paired, limit, seed)}
            categories = list(filter(is_finite, iter_json(instances, "categories.item")))
            content = {"categories": categories, "data": records}
            counts.update(_counts(records.values()))
    if not (counts["pairs"] or content.get("questions")):
        raise DataError(
            f"none of its {counts['images']:,} images has objects on two sides",
            where=str(instances),
            fix="give annotations in which categories occur once in an image",
        )
    return Built(content, {**counts, **_set_aside(quarantine)})


def _check(variant: str, axis: str | None) -> None:
    if variant not in get_args(Variant) or axis not in (None, *SIDES):
        raise ConfigError(
            f"there is no variant {variant!r} with the axis {axis!r}",
            where="variant, axis",
            fix="give variant=paper or variant=released, axis=horizontal or axis=vertical",
        )


def _set_aside(quarantine: Quarantine) -> dict[str, int]:
    """How many records could not be used, by reason; the first one is logged."""
    if quarantine.records:
        first = quarantine.records[0]
        where = f"{first['where']}: {first['reason']}"
        logger.warning("%s is set aside, the first of %d records", where, len(quarantine))
    return {f"set aside: {reason}": number for reason, number in quarantine.reasons.items()}


def _objects(
    annotations: Iterable[tuple[Id, Record]], counts: Counter[str], where: str
) -> Iterator[tuple[Id, Record]]:
    """The annotations; of panoptic ones their segments, which are counted."""
    for image, annotation in annotations:
        segments = annotation.pop(_SEGMENTS, None)
        if segments is None:
            yield image, annotation
            continue
        if not isinstance(segments, list):
            raise DataError(f"{_SEGMENTS} of image {str(image)[:80]} is no list", where=where)
        for segment in filter(lambda one: isinstance(one, dict), segments):
            counts["segments"] += 1
            kept = {name: segment[name] for name in _FIELDS if name in segment}
            yield image, {**kept, "image_id": image}


def _stuff(instances: str | Path) -> list[Any]:
    """The ids of the categories that a panoptic file calls no things."""
    categories = iter_json(instances, "categories.item", whole=False)
    return [one["id"] for one in categories if one.get("isthing") == 0]


def _images(
    file: CocoFile,
    annotations: Grouped,
    stuff: Sequence[Any],
    counts: Counter[str],
    quarantine: Quarantine,
) -> Iterator[AnnotatedImage]:
    for record in file.images(None, quarantine):
        counts["images"] += 1
        size = record.get("width"), record.get("height")
        named = isinstance(record["file_name"], str)
        if named and all(isinstance(side, int) and side > 0 for side in size):
            size = record["width"], record["height"]
            objects = annotations[record["id"]]
            things = [one for one in objects if one.get("category_id") not in stuff]
            yield AnnotatedImage(record, size, things)
        else:
            what = "image record without file_name, width and height"
            error = DataError(what, where=f"{file.path}, image {record['id']}")
            quarantine.add(str(record["id"]), error)


def _records(
    images: Iterator[AnnotatedImage], names: Mapping[Any, str], axis: Axis, quarantine: Quarantine
) -> dict[str, Record]:
    records = ((image.id, released_record(image, names, axis, quarantine)) for image in images)
    return {key: record for key, record in records if record}


def _counts(records: Collection[Record]) -> dict[str, int]:
    pairs = [len(record.get("good_pairs", ())) for record in records]
    return {
        "images with two categories seen once": len(pairs),
        "annotations": sum(len(record["annotations"]) for record in records),
        "images with a pair": sum(map(bool, pairs)),
        "pairs": sum(pairs),
    }


def _questions(
    images: Iterator[AnnotatedImage],
    names: Mapping[Any, str],
    axes: Sequence[Axis],
    seed: int,
    quarantine: Quarantine,
) -> dict[Axis, list[Record]]:
    found: dict[Axis, list[Record]] = {axis: [] for axis in axes}
    for image in images:
        instances = usable_instances(image, names, quarantine)
        for axis in axes:
            rng = Random(f"{seed} {image.id}/{axis}")
            if question := paper_question(image, instances, axis, rng):
                found[axis].append(question)
    return found


def _paper(questions: Sequence[Record], instances: Path, seed: int) -> dict[str, Any]:
    return {
        "format": PAPER_FORMAT,
        "version": PAPER_VERSION,
        "seed": seed,
        "source": {"file": instances.name, "sha256": sha256(instances)},
        "questions": list(questions),
    }


def _drawn(items: Sequence[T], limit: int, seed: int) -> Sequence[T]:
    """`limit` of them in their order; all where it is 0."""
    if not 0 < limit < len(items):
        return items
    return [items[n] for n in sorted(Random(f"{seed} drawn").sample(range(len(items)), limit))]
