"""Files of referring expressions with the boxes of their objects, and boxes that were predicted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from locvlm.errors import DataError
from locvlm.evaluation.answers import Given, records, to_given
from locvlm.text import said_once
from locvlm.types import Box, Size

_RECORDED = '{"pred_boxes": '
_IDS = ("id", "question_id", "sent_id")
_TEXTS = ("text", "answer")


class Expression(NamedTuple):
    """One expression.

    Args:
        id: that answers refer to.
        image: file below the folder of images; empty where the record names none.
        text: the expression.
        box: of the object, in pixels.
        size: (width, height) of the image in pixels; None where it is not stated.
        unique: it is said of no other object of the image.
    """

    id: str
    image: str
    text: str
    box: Box
    size: Size | None
    unique: bool


def read_expressions(file: str | Path) -> list[Expression]:
    """The expressions of a JSON array or a JSON Lines file.

    A record holds `sent` and `gt_box` [x, y, width, height] in pixels; if it can, `id` (or
    `question_id`, `sent_id`), `image`, `width` and `height`. Without an id it has its place in the
    file, from 0. An image may also be named as by CLIP's proposals of RefCOCO: `pred_boxes_img_id`
    holds names of cut-outs.

    Raises:
        DataError: the file is missing, malformed, empty, or a record is no expression.
    """
    found = []
    for n, (where, record) in enumerate(records(file)):
        fields = record if isinstance(record, dict) else {}
        text, box = fields.get("sent"), _box(fields.get("gt_box"))
        if not isinstance(text, str) or box is None:
            raise DataError(
                "this is no referring expression: it needs sent, and gt_box [x, y, width, height]",
                where=where,
                fix='give records such as {"sent": "left cat", "gt_box": [10, 20, 30, 40]}',
            )
        found.append(Expression(_id(fields, n), _image(fields), text, box, _size(fields), True))
    if not found:
        raise DataError("there is no referring expression", where=str(file))
    return _marked(found)


def read_predictions(file: str | Path) -> Given:
    """What was answered, by the ids that `read_expressions` gives.

    A record holds `pred_boxes`, a list of [x, y, width, height] in pixels, or `pred_box`, one of
    them, or `text` (or `answer`). What is no box is left out, so that its expression is a parse
    failure. `sent` tells answers to other expressions in the same places.

    Raises:
        DataError: the file is missing or malformed, or a record holds no answer.
    """
    prompts: dict[str, str] = {}

    def answers() -> Iterator[tuple[str, str]]:
        for n, (where, record) in enumerate(records(file)):
            fields = record if isinstance(record, dict) else {}
            key = _id(fields, n)
            if isinstance(fields.get("sent"), str):
                prompts[key] = fields["sent"]
            yield key, _answer(record, where)

    return replace(to_given(file, answers()), prompts=prompts)


def recorded_boxes(text: str) -> list[Box] | None:
    """The boxes of an answer of `read_predictions`; None where it is a text."""
    if not text.startswith(_RECORDED):
        return None
    try:
        boxes = json.loads(text)["pred_boxes"]
    except (ValueError, RecursionError):  # a text that looks like one
        return None
    found = [_box(values) for values in boxes] if isinstance(boxes, list) else []
    return [box for box in found if box is not None]


def _answer(record: Any, where: str) -> str:
    if isinstance(record, dict):
        for name in _TEXTS:
            if isinstance(record.get(name), str):
                return str(record[name])
        if "pred_boxes" in record:
            return json.dumps({"pred_boxes": record["pred_boxes"]})
        if "pred_box" in record:
            return json.dumps({"pred_boxes": [record["pred_box"]]})
    raise DataError(
        "this record holds no answer: it needs pred_boxes, pred_box or text",
        where=where,
        fix="give expressions=FILE and answers=FILE if they are apart",
    )


def _box(values: Any) -> Box | None:
    """[x, y, width, height] as corners; None where it is something else, or has no area."""
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return None
    try:
        x, y, width, height = map(float, values)
    except OverflowError:
        return None
    box = Box(x, y, x + width, y + height)
    return box if all(map(isfinite, box)) and width > 0 and height > 0 else None


def _id(record: Mapping[str, Any], place: int) -> str:
    return str(next((record[name] for name in _IDS if name in record), place))


def _image(record: Mapping[str, Any]) -> str:
    named = record.get("image")
    if isinstance(named, str):
        return named
    cut_outs = record.get("pred_boxes_img_id")
    if isinstance(cut_outs, list) and cut_outs and isinstance(cut_outs[0], str):
        photo, _, rest = cut_outs[0].rpartition("_")
        return f"{photo}{Path(rest).suffix}"
    return ""


def _size(record: Mapping[str, Any]) -> Size | None:
    width, height = record.get("width"), record.get("height")
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def _marked(expressions: Sequence[Expression]) -> list[Expression]:
    """With the mark of those that are said of one object of their image only."""
    said: dict[str, dict[Box, list[str]]] = {}
    for one in expressions:
        said.setdefault(one.image, {}).setdefault(one.box, []).append(one.text)
    unique = {image: said_once(of.values()) for image, of in said.items() if image}
    return [
        one._replace(unique=one.text in unique.get(one.image, {one.text})) for one in expressions
    ]
