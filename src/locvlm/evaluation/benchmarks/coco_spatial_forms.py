"""What COCO-Spatial makes of an annotated image: a released record, or a question of the paper."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco_file import Record
from locvlm.data.readers.fields import is_id, read_box, shown
from locvlm.errors import DataError
from locvlm.objectives import single_instances
from locvlm.spatial import SIDES, Axis, SideFact, image_facts, opposite, side_of_object
from locvlm.types import Box, Instance, Size


class AnnotatedImage(NamedTuple):
    """An image's record of a COCO-format file, its (width, height) in pixels, its annotations."""

    record: Record
    size: Size
    annotations: Sequence[Record]

    @property
    def id(self) -> str:
        """As text, which keys of JSON are."""
        return str(self.record["id"])


def released_record(
    image: AnnotatedImage, names: Mapping[Any, str], axis: Axis, quarantine: Quarantine
) -> Record | None:
    """What `filter_dataset.py`, then `filter_spatial.py` or `filter_up_down.py` make of an image.

    Args:
        image: of which annotations are kept as they stand.
        names: of the category ids.
        axis: along which pairs lie; without any, the record has no `good_pairs`.
        quarantine: of annotations without a known category and a box.

    Returns:
        None where fewer than two categories occur once; a crowd counts as one object.

    Source: the authors' release (kahnchana/locvlm).
    """
    usable = [one for one in image.annotations if _is_usable(one, image, names, quarantine)]
    seen = Counter(filter(is_id, (one.get("category_id") for one in image.annotations)))
    kept = [one for one in usable if seen[one["category_id"]] == 1]
    if len(kept) < 2:
        return None
    along = 0 if axis == "horizontal" else 1
    in_order = sorted(kept, key=lambda one: one["bbox"][along])
    pairs = _pairs([_corners(one["bbox"]) for one in in_order], axis)
    return {
        "annotations": in_order if pairs else kept,
        "file_name": image.record["file_name"],
        "height": image.size[1],
        "width": image.size[0],
        **({"good_pairs": pairs} if pairs else {}),
    }


def paper_question(
    image: AnnotatedImage, instances: Sequence[Instance], axis: Axis, rng: Random
) -> Record | None:
    """Three objects of an image, as `three_objects` draws them; None where there are no three."""
    three = three_objects(instances, image.size, axis, rng)
    return three and {
        "id": f"{image.id}/{axis}",
        "image_id": image.record["id"],
        "file_name": image.record["file_name"],
        "width": image.size[0],
        "height": image.size[1],
        "axis": axis,
        "objects": [_object(fact) for fact in three],
    }


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


def usable_instances(
    image: AnnotatedImage, names: Mapping[Any, str], quarantine: Quarantine
) -> list[Instance]:
    """Its single instances, but for categories of which one has no box that can be used.

    Args:
        image: with its annotations.
        names: of the category ids.
        quarantine: of the annotations that cannot be used.
    """
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
    annotation: Record, image: AnnotatedImage, names: Mapping[Any, str], quarantine: Quarantine
) -> bool:
    """Whether it has a category and a box of four numbers; the release asks no more of them."""
    box, category = annotation.get("bbox"), annotation.get("category_id")
    if (
        is_id(category)
        and category in names
        and isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) for value in box)
        and is_finite(annotation)
    ):
        return True
    where = f"annotation {shown(annotation.get('id'))}"
    quarantine.add(image.id, DataError("annotation without category and box", where=where))
    return False


def is_finite(value: Any) -> bool:
    """Whether it can be written: JSON in files of others may hold NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _corners(values: Sequence[float]) -> Box:
    x, y, width, height = values
    return Box(x, y, x + width, y + height)


def _object(fact: SideFact) -> dict[str, Any]:
    box = fact.instance.box
    return {
        "category": fact.instance.category,
        "bbox": [round(v, 2) for v in (box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1)],
        "side": fact.side,
    }
