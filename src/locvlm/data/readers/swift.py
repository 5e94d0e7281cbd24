"""Reads ms-swift's grounding data: messages with placeholders, and `objects` beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from locvlm.chat import IMAGE
from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import check_given, read_field
from locvlm.data.readers.images import check_folder, image_name, read_image, single_image
from locvlm.data.readers.llava import answered_turns
from locvlm.dialects import Swift
from locvlm.errors import DataError
from locvlm.io import read_jsonl
from locvlm.json_stream import iter_json
from locvlm.types import Message, Sample

_ROLES: tuple[Literal["user", "assistant"], ...] = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class SwiftReader:
    """Samples of an ms-swift file: a list, or lines, of {messages, images, objects}.

    The `<image>` marker and system messages are left out: the chat format has its own. Boxes become
    pixels of the original image whatever their `bbox_type`.

    Args:
        conversations: the JSONL file, or a JSON list where its name ends in .json.
        images: folder that relative paths start from, and that absolute ones must lie in.
        limit: stop after that many records; None reads all.

    Raises:
        ConfigError: no file is given.
    """

    conversations: str | None
    images: str | None
    limit: int | None = None

    def __post_init__(self) -> None:
        fix = "add conversations=FILE"
        check_given(self.conversations, "a file of conversations", "conversations", fix)

    @property
    def sources(self) -> list[str]:
        return [str(self.conversations)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file or the image folder is missing.
        """
        folder = check_folder(self.images)
        records = _records(str(self.conversations), quarantine)
        for n, (where, record) in enumerate(islice(records, self.limit)):
            try:
                yield _sample(record, str(n), folder, where)
            except DataError as error:
                aside = DataError(error.what, where=error.where or where, fix=error.fix)
                quarantine.add(str(n), aside)


def _records(file: str, quarantine: Quarantine) -> Iterator[tuple[str, Any]]:
    if file.endswith(".json"):
        for n, record in enumerate(iter_json(file, "item")):
            yield f"{file}, record {n}", record
        return
    for line, record in read_jsonl(file, lambda error: quarantine.add(str(error.where), error)):
        yield f"{file}, line {line}", record


def _sample(record: Any, key: str, folder: Path, where: str) -> Sample:
    texts = _texts(record)
    found = single_image(record, where)
    if sum(text.count(IMAGE) for text in texts) > (found is not None):
        raise DataError("text refers to more images than the record has")
    image, size = (None, None) if found is None else read_image(folder, image_name(found, folder))
    if size is None and any(map(Swift().mentions, texts)):
        raise DataError("locations without an image")
    plain = [texts[0].replace(IMAGE, "").strip() if IMAGE in texts[0] else texts[0], *texts[1:]]
    turns = Swift().read(plain, record.get("objects"), size or (1, 1))
    messages = tuple(Message(_ROLES[n % 2], parts) for n, parts in enumerate(turns))
    answered = answered_turns(messages)
    if not answered:
        raise DataError("conversation without an answer")
    return Sample(key, where, image, size, messages=answered)


def _texts(record: Any) -> list[str]:
    messages = read_field(record, "messages")
    if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
        raise DataError("record without messages")
    turns = [one for one in messages if one.get("role") != "system"]
    for n, turn in enumerate(turns):
        if turn.get("role") != _ROLES[n % 2]:
            raise DataError("turns that do not alternate between user and assistant")
        if not isinstance(turn.get("content"), str):
            raise DataError("turn without text")
    if not turns:
        raise DataError("record without messages")
    return [turn["content"] for turn in turns]
