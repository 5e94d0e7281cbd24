"""Reads LLaVA-format conversations: pre-training captions and instruction data."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.chat import IMAGE
from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco import read_image
from locvlm.errors import DataError
from locvlm.images import image_size
from locvlm.io import read_json, read_jsonl
from locvlm.types import Message, Sample

_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
# The marker stands on a line of its own before or after the question; the line goes with it.
_MARKER = re.compile(rf"\s*\n?{re.escape(IMAGE)}\n?\s*")


@dataclass(frozen=True, slots=True)
class LlavaReader:
    """Samples of a LLaVA-format file: a list, or lines, of {id, image, conversations}.

    The `<image>` marker is taken out of the text: the chat format says where images stand.

    Args:
        conversations: the JSON or JSONL file.
        images: folder that the records' `image` paths start from.
        limit: stop after that many records; None reads all.
    """

    conversations: str
    images: str
    limit: int | None = None

    @property
    def sources(self) -> list[str]:
        return [self.conversations]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no list of records, or the image folder is missing.
        """
        if not Path(self.images).is_dir():
            raise DataError("no such image folder", where=self.images)
        seen: set[str] = set()
        for n, record in self._records():
            if self.limit is not None and n >= self.limit:
                return
            where = f"{self.conversations}, record {n}"
            name = str(record.get("id", n)) if isinstance(record, dict) else str(n)
            # LLaVA's ids are not unique; keys must be.
            key = f"{name}-{n}" if name in seen else name
            seen.add(name)
            try:
                yield self._sample(record, key, where)
            except DataError as error:
                quarantine.add(key, error)

    def _records(self) -> Iterator[tuple[int, Any]]:
        if self.conversations.endswith(".jsonl"):
            yield from ((n, record) for n, (_, record) in enumerate(read_jsonl(self.conversations)))
            return
        data = read_json(self.conversations)
        if not isinstance(data, list):
            raise DataError(
                "not a LLaVA file: it needs a list of {id, image, conversations}",
                where=self.conversations,
            )
        yield from enumerate(data)

    def _sample(self, record: Any, key: str, where: str) -> Sample:
        messages = _messages(record, where)
        extra = {name: str(record[name]) for name in ("kind", "type") if name in record}
        if "image" not in record:
            return Sample(key=key, source=where, messages=messages, extra=extra)
        path = Path(self.images) / str(record["image"])
        data = read_image(path)
        size = image_size(data, str(path))
        return Sample(key=key, source=where, image=data, size=size, messages=messages, extra=extra)


def _messages(record: Any, where: str) -> tuple[Message, ...]:
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not turns:
        raise DataError("record without conversations", where=where)
    messages = []
    for n, turn in enumerate(turns):
        if not isinstance(turn, dict) or turn.get("from") not in _ROLES:
            raise DataError("turn that is neither human's nor gpt's", where=f"{where}, turn {n}")
        if not isinstance(turn.get("value"), str):
            raise DataError("turn without text", where=f"{where}, turn {n}")
        text = _MARKER.sub("", turn["value"]) if n == 0 else turn["value"]
        messages.append(Message(_ROLES[turn["from"]], (text,)))  # type: ignore[arg-type]
    if messages[0].role != "user":
        raise DataError("conversation that does not begin with the human", where=where)
    if not any(message.role == "assistant" and message.parts[0] for message in messages):
        raise DataError("conversation without an answer", where=where)
    return tuple(messages)
