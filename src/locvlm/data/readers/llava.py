"""Reads LLaVA-format conversations: pre-training captions and instruction data."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from locvlm.chat import IMAGE
from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.images import check_folder, read_image
from locvlm.errors import ConfigError, DataError
from locvlm.io import read_json, read_jsonl
from locvlm.types import Message, Sample

_ROLES: dict[str, Literal["user", "assistant"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}
# The marker stands on a line of its own before or after the question; the line goes with it.
_MARKER = re.compile(rf"\s*{re.escape(IMAGE)}\s*")


@dataclass(frozen=True, slots=True)
class LlavaReader:
    """Samples of a LLaVA-format file: a list, or lines, of {id, image, conversations}.

    The `<image>` marker is taken out of the text: the chat format says where images stand.
    Questions without an answer are left out.

    Args:
        conversations: the JSON or JSONL file.
        images: folder that the records' `image` paths start from.
        limit: stop after that many records; None reads all.

    Raises:
        ConfigError: no file is given.
    """

    conversations: str | None
    images: str | None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.conversations is None:
            raise ConfigError(
                "a file of conversations is needed",
                where="source.conversations",
                fix="add conversations=FILE",
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
        seen: set[str] = set()
        for n, record in self._records(quarantine):
            if self.limit is not None and n >= self.limit:
                return
            key = str(record.get("id", n)) if isinstance(record, dict) else str(n)
            while key in seen:  # LLaVA's ids are not unique; keys must be
                key = f"{key}-{n}"
            seen.add(key)
            try:
                yield self._sample(record, key, folder, n, quarantine)
            except DataError as error:
                quarantine.add(key, error)

    def _records(self, quarantine: Quarantine) -> Iterator[tuple[int, Any]]:
        file = str(self.conversations)
        if file.endswith(".jsonl"):
            lines = read_jsonl(file, lambda error: quarantine.add(str(error.where), error))
            yield from ((n, record) for n, (_, record) in enumerate(lines))
            return
        data = read_json(file)
        if not isinstance(data, list):
            raise DataError(
                "not a LLaVA file: it needs a list of {id, image, conversations}", where=file
            )
        yield from enumerate(data)

    def _sample(
        self, record: Any, key: str, folder: Path, n: int, quarantine: Quarantine
    ) -> Sample:
        where = f"{self.conversations}, record {n}"
        messages = read_turns(record, where)
        answered = answered_turns(messages)
        if not answered:
            raise DataError("conversation without an answer", where=where)
        if len(answered) < len(messages):
            quarantine.add(key, DataError("question without an answer", where=where))
        extra = {name: str(record[name]) for name in ("kind", "type") if name in record}
        image, size = None, None
        if record.get("image"):
            image, size = read_image(folder, record["image"])
            extra["image"] = record["image"]
        return Sample(key, where, image, size, messages=answered, extra=extra)


def read_turns(record: Any, where: str) -> tuple[Message, ...]:
    """The turns of a record {image, conversations}, which alternate; without the image marker.

    Raises:
        DataError: they do not alternate, one has no text, or there is a marker without an image.
    """
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not turns:
        raise DataError("record without conversations", where=where)
    messages = []
    for n, turn in enumerate(turns):
        role = turn.get("from") if isinstance(turn, dict) else None
        if not isinstance(role, str) or role not in _ROLES:
            raise DataError("turn that is neither human's nor gpt's", where=f"{where}, turn {n}")
        if _ROLES[role] != ("user", "assistant")[n % 2]:
            raise DataError("turns that do not alternate", where=f"{where}, turn {n}")
        if not isinstance(turn.get("value"), str):
            raise DataError("turn without text", where=f"{where}, turn {n}")
        messages.append(Message(_ROLES[role], (turn["value"],)))
    text, n_markers = _MARKER.subn("", turns[0]["value"])
    if n_markers > bool(record.get("image")):
        raise DataError(
            "text refers to more images than the record has",
            where=where,
            fix="give the record its image, or take <image> out of the text",
        )
    return (Message("user", (text,)), *messages[1:])


def answered_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The questions that have an answer, with it."""
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return tuple(
        message for pair in pairs if "".join(map(str, pair[1].parts)).strip() for message in pair
    )
