"""Samples as JSON records: what stands beside each image in a shard."""

import math
from collections.abc import Mapping
from typing import Any

from locvlm.errors import DataError
from locvlm.images import max_side
from locvlm.types import Box, Instance, Message, Part, Point, Sample, Size

# What anything in the place of a record makes `from_record` raise; the last one where it is nested
# so deeply that it cannot be shown.
_STUMBLES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


def to_record(sample: Sample) -> dict[str, Any]:
    """All of a sample but its image, as JSON values; locations stay pixels.

    What turns weigh in the loss is a matter of training, and not stored either.
    """
    return {
        "key": sample.key,
        "source": sample.source,
        "size": sample.size,
        "instances": [_instance_record(one) for one in sample.instances],
        "absent": sample.absent,
        "messages": [{"role": message.role, "parts": message.parts} for message in sample.messages],
        "extra": dict(sample.extra),
    }


def from_record(record: Any, image: bytes | None, where: str) -> Sample:
    """The inverse of `to_record`; takes nothing on trust.

    Args:
        record: parsed JSON.
        image: the encoded image that belongs to it.
        where: where it was read, for error messages.

    Raises:
        DataError: the record does not describe a sample.
    """
    try:
        return Sample(
            key=_text(record["key"]),
            source=f"{where} ({_text(record['source'])})",
            image=image,
            size=None if record["size"] is None else _size(record["size"]),
            instances=tuple(_instance(one) for one in record["instances"]),
            absent=tuple(_text(name) for name in record["absent"]),
            messages=tuple(_message(one) for one in record["messages"]),
            extra={_text(key): _text(value) for key, value in record["extra"].items()},
        )
    except _STUMBLES as error:
        raise DataError(f"sample record is malformed: {repr(error)[:200]}", where=where) from None


def _instance_record(one: Instance) -> dict[str, Any]:
    record = {
        "category": one.category,
        "box": one.box,
        "description": one.description,
        "crowd": one.crowd,
    }
    return record | {"unique": True} if one.unique else record


def _instance(record: Mapping[str, Any]) -> Instance:
    description = record["description"]
    return Instance(
        category=_text(record["category"]),
        box=Box(*_numbers(record["box"], 4)),
        description=None if description is None else _text(description),
        crowd=record["crowd"] is True,
        unique=record.get("unique") is True,  # written where it holds
    )


def _message(record: Mapping[str, Any]) -> Message:
    role = record["role"]
    if role not in ("user", "assistant"):
        raise ValueError(f"role {role!r}")
    return Message(role, tuple(_part(part) for part in record["parts"]))


def _part(part: Any) -> Part:
    if isinstance(part, str):
        return _text(part)
    return Box(*_numbers(part, 4)) if len(part) == 4 else Point(*_numbers(part, 2))


def _size(values: Any) -> Size:
    width, height = values
    whole = isinstance(width, int) and isinstance(height, int)
    if not (whole and min(width, height) > 0 and max(width, height) <= max_side()):
        raise ValueError(f"size {values!r}")
    return width, height


def _numbers(values: Any, count: int) -> list[float]:
    numbers = [float(value) for value in values if not isinstance(value, str)]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"location {values!r}")
    return numbers


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value.encode("utf-8", "replace").decode()  # tokenizers refuse lone surrogates
