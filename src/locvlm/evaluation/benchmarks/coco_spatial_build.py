"""Builds COCO-Spatial's file of questions, in the paper's form or the released one."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, get_args

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco_file import CocoFile, Record
from locvlm.data.readers.fields import is_id, read_box, shown
from locvlm.data.readers.grouped import Grouped, grouped
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.coco_spatial_file import PAPER_FORMAT, PAPER_VERSION, Variant
from locvlm.io import sha256
from locvlm.json_stream import iter_json
from locvlm.objectives import single_instances
from locvlm.spatial import SIDES, Axis, SideFact, image_facts, opposite, side_of_object
from locvlm.types import Box, Instance, Size

# What an annotation of the released file has: all that COCO's has, but for the polygons.
_FIELDS = ("area", "iscrowd", "image_id", "bbox", "category_id", "id")
logger = logging.getLogger(__name__)


class Built(NamedTuple):
    """A file's contents, and how many there are of what."""

    content: dict[str, Any]
    counts: dict[str, int]


def build(
    instances: str | Path, variant: Variant, axis: Axis | None = None, seed: int = 0
) -> Built:
    """The questions that a COCO-format file gives rise to; it is read in a stream.

    Args:
        instances: the file: images with their sizes, annotations, categories.
        variant: `paper`: three objects of an image, each of a category of its own and on one side
            of the image, not all on the same one. `released`: pairs of such objects of which one
            ends before the other begins, in the JSON of the authors' release; as there, a crowd
            counts as one object, and images without a pair are kept.
        axis: `horizontal` or `vertical`; None is both for the paper's, left and right for the
            released one.
        seed: of the choice among more than three objects.

    Raises:
        ConfigError: there is no such variant or axis.
        DataError: this is no COCO-format file, or no image qualifies.
    """
    if variant not in get_args(Variant) or axis not in (None, *SIDES):
        raise ConfigError(
            f"there is no variant {variant!r} with the axis {axis!r}",
            where="variant, axis",
            fix="give variant=paper or variant=released, axis=horizontal or axis=vertical",
        )
    quarantine = Quarantine()
    names: dict[Any, str] = {}
    file = CocoFile(str(instances), "instances")
    counts: Counter[str] = Counter()
    with grouped(file.annotations(_FIELDS, quarantine, names)) as annotations:
        images = _images(file, annotations, counts, quarantine)
        if variant == "paper":
            axes = [axis] if axis else list(SIDES)
            content = _paper(images, names, axes, seed, counts, quarantine)
            content["source"] = {"file": Path(instances).name, "sha256": sha256(Path(instances))}
        else:
            data = _released(images, names, axis or "horizontal", counts, quarantine)
            categories = list(filter(_is_finite, iter_json(instances, "categories.item")))
            content = {"categories": categories, "data": data}
    asked = "questions" if variant == "paper" else "pairs"
    if not counts[asked]:
        raise DataError(
            f"none of its {counts['images']:,} images has objects on two sides",
            where=str(instances),
            fix="give annotations in which categories occur once in an image",
        )
    if quarantine.records:
        first = quarantine.records[0]
        where = f"{first['where']}: {first['reason']}"
        logger.warning("%s is set aside, the first of %d records", where, len(quarantine))
    aside = {f"set aside: {reason}": number for reason, number in quarantine.reasons.items()}
    return Built(content, {**counts, **aside})


class _Image(NamedTuple):
    """An image's record with its annotations."""

    record: Record
    size: Size
    annotations: list[Record]

    @property
    def id(self) -> str:
        return str(self.record["id"])


def _images(
    file: CocoFile, annotations: Grouped, counts: Counter[str], quarantine: Quarantine
) -> Iterator[_Image]:
    for record in file.images(None, quarantine):
        counts["images"] += 1
        size = record.get("width"), record.get("height")
        named = isinstance(record["file_name"], str)
        if named and all(isinstance(side, int) and side > 0 for side in size):
            yield _Image(record, (record["width"], record["height"]), annotations[record["id"]])
        else:
            what = "image record without file_name, width and height"
            error = DataError(what, where=f"{file.path}, image {record['id']}")
            quarantine.add(str(record["id"]), error)


def _released(
    images: Iterator[_Image],
    names: Mapping[Any, str],
    axis: Axis,
    counts: Counter[str],
    quarantine: Quarantine,
) -> dict[str, Any]:
    """What `filter_dataset.py`, then `filter_spatial.py` or `filter_up_down.py` make of a file.

    Source: the authors' release (kahnchana/locvlm).
    """
    data = {}
    for image in images:
        usable = [one for one in image.annotations if _is_usable(one, image, names, quarantine)]
        seen = Counter(filter(is_id, (one.get("category_id") for one in image.annotations)))
        kept = [one for one in usable if seen[one["category_id"]] == 1]
        if len(kept) < 2:
            continue
        record: dict[str, Any] = {
            "annotations": kept,
            "file_name": image.record["file_name"],
            "height": image.size[1],
            "width": image.size[0],
        }
        along = 0 if axis == "horizontal" else 1
        in_order = sorted(kept, key=lambda one: one["bbox"][along])
        if pairs := _pairs([_corners(one["bbox"]) for one in in_order], axis):
            record |= {"annotations": in_order, "good_pairs": pairs}
        data[image.id] = record
        counts["images with two categories seen once"] += 1
        counts["annotations"] += len(kept)
        counts["images with a pair"] += bool(pairs)
        counts["pairs"] += len(pairs)
    return data


def _pairs(boxes: Sequence[Box], axis: Axis) -> list[list[int]]:
    """Indices of boxes that lie before others; strictly, so none touches its other one."""
    first = SIDES[axis][0]
    return [
        [n, m]
        for n, box in enumerate(boxes)
        for m in range(n + 1, len(boxes))
        if side_of_object(box, boxes[m], axis) == first
    ]


def _is_usable(
    annotation: Record, image: _Image, names: Mapping[Any, str], quarantine: Quarantine
) -> bool:
    """Whether it has a category and a box of four numbers; the release asks no more of them."""
    box, category = annotation.get("bbox"), annotation.get("category_id")
    if (
        is_id(category)
        and category in names
        and isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) for value in box)
        and _is_finite(annotation)
    ):
        return True
    where = f"annotation {shown(annotation.get('id'))}"
    quarantine.add(image.id, DataError("annotation without category and box", where=where))
    return False


def _is_finite(value: Any) -> bool:
    """Whether it can be written: JSON in files of others may hold NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _corners(values: Sequence[float]) -> Box:
    x, y, width, height = values
    return Box(x, y, x + width, y + height)


def _paper(
    images: Iterator[_Image],
    names: Mapping[Any, str],
    axes: Sequence[Axis],
    seed: int,
    counts: Counter[str],
    quarantine: Quarantine,
) -> dict[str, Any]:
    questions = []
    for image in images:
        found = _instances(image, names, quarantine)
        for axis in axes:
            key = f"{image.id}/{axis}"
            if three := three_objects(found, image.size, axis, Random(f"{seed} {key}")):
                questions.append(
                    {
                        "id": key,
                        "image_id": image.record["id"],
                        "file_name": image.record["file_name"],
                        "width": image.size[0],
                        "height": image.size[1],
                        "axis": axis,
                        "objects": [_object(fact) for fact in three],
                    }
                )
                counts["questions"] += 1
                counts[f"questions, {axis}"] += 1
    about = {"format": PAPER_FORMAT, "version": PAPER_VERSION, "seed": seed}
    return {**about, "questions": questions}


def three_objects(
    instances: Sequence[Instance], size: Size, axis: Axis, rng: Random
) -> tuple[SideFact, SideFact, SideFact] | None:
    """Three instances with their sides of the image, the first one alone on its side.

    Only then can worked questions be about the first and second, and the question about the third
    and first: both pairs lie on opposite sides.

    Args:
        instances: annotated objects; those that share their category are left out.
        size: (width, height) of their image in pixels.
        axis: of the sides.
        rng: chooses among them; either side is as likely to be the lone one, where both can be.

    Returns:
        None where there are no three, or all are on one side.

    Source: LocVLM, CVPR 2024, COCO-Spatial.
    """
    facts = image_facts(instances, size, axis)
    on = {side: [fact for fact in facts if fact.side == side] for side in SIDES[axis]}
    lone = [side for side in SIDES[axis] if on[side] and len(on[opposite(side)]) > 1]
    if not lone:
        return None
    side = rng.choice(lone)
    second, third = rng.sample(on[opposite(side)], 2)
    return rng.choice(on[side]), second, third


def _instances(image: _Image, names: Mapping[Any, str], quarantine: Quarantine) -> list[Instance]:
    """Those with a usable box, but for categories of which another one has none."""
    found, unusable = [], set()
    for one in image.annotations:
        category, where = one.get("category_id"), f"annotation {shown(one.get('id'))}"
        try:
            if not is_id(category) or category not in names:
                raise DataError(f"unknown category id: {shown(category)}", where=where)
            box = read_box(one.get("bbox"), image.size, where)
        except DataError as error:
            quarantine.add(image.id, error)
            unusable.add(names.get(category) if is_id(category) else None)
        else:
            found.append(Instance(names[category], box, crowd=bool(one.get("iscrowd", 0))))
    return [one for one in single_instances(found) if one.category not in unusable]


def _object(fact: SideFact) -> dict[str, Any]:
    box = fact.instance.box
    return {
        "category": fact.instance.category,
        "bbox": [round(v, 2) for v in (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)],
        "side": fact.side,
    }
