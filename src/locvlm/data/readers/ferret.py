"""Reads Ferret's conversations: placeholders in the text, and pixel boxes beside it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import check_given, check_size, read_box, read_list, shown
from locvlm.data.readers.images import check_folder, read_image, single_image
from locvlm.data.readers.llava import answered_turns, keyed_records, read_turns
from locvlm.errors import DataError
from locvlm.types import Box, Message, Part, Sample, Size

_PLACEHOLDER = re.compile(r"<bbox_location(\d{1,4})>")


@dataclass(frozen=True, slots=True)
class FerretReader:
    """Samples of a Ferret file: LLaVA's records with `box_x1y1x2y2`, one list of boxes per turn.

    `<bbox_location0>` stands for the first box of its turn. Read in a stream.

    Args:
        conversations: the JSON or JSONL file.
        images: folder that the records' `image` paths start from.
        limit: stop after that many records; None reads all.

    Raises:
        ConfigError: no file is given.

    Source: apple/ml-ferret, ferretui/playground/sample_data.
    """

    conversations: str | None
    images: str | None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_given(
            self.conversations,
            "a file of conversations",
            "conversations",
            "add conversations=FILE",
        )

    @property
    def sources(self) -> list[str]:
        return [str(self.conversations)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no list of records, or the image folder is missing.
        """
        folder = check_folder(self.images)
        for key, where, record in keyed_records(str(self.conversations), self.limit, quarantine):
            try:
                messages = read_turns(record, where)
                image = single_image(record, where)
                data, size = read_image(folder, image)
                stated = {"width": "image_w", "height": "image_h"}
                check_size({k: record[v] for k, v in stated.items() if v in record}, size, where)
                answered = answered_turns(_located(messages, record, size, where))
                if not answered:
                    raise DataError("conversation without an answer", where=where)
                extra = {"image": image}
                yield Sample(key, where, data, size, messages=answered, extra=extra)
            except DataError as error:
                quarantine.add(key, error)


def _located(
    messages: tuple[Message, ...], record: Any, size: Size, where: str
) -> tuple[Message, ...]:
    boxes = read_list(record, "box_x1y1x2y2", where)
    if len(boxes) != len(messages):
        what = f"{len(messages)} turns with {len(boxes)} lists of boxes"
        raise DataError(what, where=where)
    return tuple(
        Message(message.role, tuple(_parts(str(message.parts[0]), group, size, where)))
        for message, group in zip(messages, boxes, strict=True)
    )


def _parts(text: str, boxes: Any, size: Size, where: str) -> Iterator[Part]:
    end = 0
    for match in _PLACEHOLDER.finditer(text):
        number = int(match[1])
        if not isinstance(boxes, list) or number >= len(boxes):
            raise DataError(f"placeholder without its box: {match[0]}", where=where)
        if match.start() > end:
            yield text[end : match.start()]
        yield _box(boxes[number], size, where)
        end = match.end()
    if end < len(text) or not text:
        yield text[end:]


def _box(values: Any, size: Size, where: str) -> Box:
    try:
        x1, y1, x2, y2 = values
        sides = [x1, y1, x2 - x1, y2 - y1]
    except (OverflowError, TypeError, ValueError):
        raise DataError(f"box without four numbers: {shown(values)}", where=where) from None
    return read_box(sides, size, where)
