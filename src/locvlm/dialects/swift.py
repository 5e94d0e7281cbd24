"""ms-swift's records: placeholders in the texts, names and boxes beside them."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from locvlm.dialects.frames import frame, visible
from locvlm.dialects.parts import Phrase, Span, interleave
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Location, Part, Point, Size

BoxType: TypeAlias = Literal["real", "norm1", "norm1000"]
_PLACEHOLDER = re.compile("<ref-object>|<bbox>")
# How many digits after the point are written; what a side is divided into, None for pixels.
_DECIMALS: dict[str, int] = {"real": 2, "norm1": 5, "norm1000": 0}
_SIDES: dict[str, int | None] = {"real": None, "norm1": 1, "norm1000": 1000}


@dataclass(frozen=True, slots=True)
class Swift:
    """Reads and writes the `objects` of a record with the texts of all its turns.

    `<ref-object>` stands for the next of `objects.ref`, `<bbox>` for the next of `objects.bbox`:
    two numbers are a point, four a box.

    Args:
        bbox_type: what is written: pixels of the original image (`real`, two decimals), shares of
            its sides (`norm1`, five) or whole thousandths (`norm1000`). What is read says so.

    Raises:
        ConfigError: there is no such type.

    Source: modelscope/ms-swift, docs/source_en/Customization/Custom-dataset.md (Grounding).
    """

    bbox_type: BoxType = "real"

    def __post_init__(self) -> None:
        if self.bbox_type not in _SIDES:
            raise ConfigError(
                f"no bbox_type called {self.bbox_type!r}", fix=f"choose from {', '.join(_SIDES)}"
            )

    def mentions(self, text: str) -> int:
        """How many locations the text has a place for."""
        return text.count("<bbox>")

    def read(self, texts: Sequence[str], objects: Any, size: Size) -> list[tuple[Part, ...]]:
        """The parts of each text; `objects` as the record has it, or None.

        Raises:
            DataError: `objects` does not fit the placeholders, or has a box outside the image.
        """
        objects = {} if objects is None else objects
        if not isinstance(objects, dict):
            raise DataError("objects is no JSON object")
        if any(_list(objects, "image_id")):
            raise DataError("objects refer to more images than one")
        names, boxes = _list(objects, "ref"), _list(objects, "bbox")
        placed = [text.count(mark) for mark in ("<ref-object>", "<bbox>") for text in texts]
        counts = sum(placed[: len(texts)]), sum(placed[len(texts) :])
        if counts != (len(names), len(boxes)):
            raise DataError(
                f"objects do not fit the text: {len(names)} ref for {counts[0]} <ref-object>, "
                f"{len(boxes)} bbox for {counts[1]} <bbox>"
            )
        kind = objects.get("bbox_type") or "real"
        if not isinstance(kind, str) or kind not in _SIDES:
            raise DataError("unknown bbox_type in objects")
        phrases = iter([_phrase(name) for name in names])
        places = iter([_location(box, _SIDES[kind], size) for box in boxes])
        return [interleave(text, _spans(text, phrases, places)) for text in texts]

    def write(
        self, turns: Sequence[Sequence[Part]], size: Size
    ) -> tuple[list[str], dict[str, Any]]:
        """The text of each turn, and the `objects` of all; without any, an empty one.

        Raises:
            DataError: a text holds a placeholder itself, or a location lies outside the image.
        """
        names: list[str] = []
        boxes: list[list[float]] = []
        texts = []
        for parts in turns:
            text = ""
            for part in parts:
                if isinstance(part, Phrase):
                    names.append(str(part))
                    text += "<ref-object>"
                elif isinstance(part, str):
                    if _PLACEHOLDER.search(part):
                        raise DataError("text holds <bbox> or <ref-object> itself")
                    text += part
                else:
                    boxes.append(self._numbers(part, size))
                    text += "<bbox>"
            texts.append(text)
        if not names and not boxes:
            return texts, {}
        return texts, {"ref": names, "bbox": boxes, "bbox_type": self.bbox_type}

    def worst_error(self, size: Size) -> tuple[float, float]:
        """How far writing moves a coordinate at most, in pixels: (x, y)."""
        step = 10 ** -_DECIMALS[self.bbox_type] / 2
        n = _SIDES[self.bbox_type]
        return (step, step) if n is None else (size[0] * step / n, size[1] * step / n)

    def _numbers(self, location: Location, size: Size) -> list[float]:
        n, decimals = _SIDES[self.bbox_type], _DECIMALS[self.bbox_type]
        shown = visible(location, size, frame(size, "resize"))
        scales = [1.0, 1.0] if n is None else [n / size[0], n / size[1]]
        numbers = [value * scale for value, scale in zip(shown, scales * 2, strict=False)]
        return [round(number, decimals) if decimals else round(number) for number in numbers]


def _spans(text: str, phrases: Iterator[Phrase], places: Iterator[Location]) -> Iterator[Span]:
    for found in _PLACEHOLDER.finditer(text):
        part: Part = next(places) if found[0] == "<bbox>" else next(phrases)
        yield Span(found.start(), found.end(), [part])


def _list(objects: dict[str, Any], name: str) -> list[Any]:
    value = objects.get(name)
    if value is not None and not isinstance(value, list):
        raise DataError(f"objects.{name} is no list")
    return value or []


def _phrase(value: Any) -> Phrase:
    if not isinstance(value, str):
        raise DataError("objects.ref holds something that is no text")
    return Phrase(value)


def _location(values: Any, n: int | None, size: Size) -> Location:
    if not isinstance(values, list) or len(values) not in (2, 4):
        raise DataError("objects.bbox holds something that is neither two nor four numbers")
    scales = [1.0, 1.0] if n is None else [size[0] / n, size[1] / n]
    try:
        numbers = [
            float(value) * scale
            for value, scale in zip(values, scales * 2, strict=False)
            if isinstance(value, int | float)
        ]
    except OverflowError:
        numbers = [math.inf] * len(values)
    if len(numbers) != len(values):
        raise DataError("objects.bbox holds something that is neither two nor four numbers")
    location = Box(*numbers) if len(numbers) == 4 else Point(*numbers)
    return visible(location, size, frame(size, "resize"))
