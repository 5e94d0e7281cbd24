"""Reads LLaVA-format conversations: pre-training captions and instruction data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from locvlm.chat import IMAGE
from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import check_given, is_id, read_field
from locvlm.data.readers.images import (
    PICTURE,
    check_folder,
    image_name,
    read_image,
    single_image,
)
from locvlm.dialects import Dialect
from locvlm.errors import DataError
from locvlm.io import read_jsonl
from locvlm.json_stream import iter_json
from locvlm.types import Message, Sample, Size

_BEFORE = ("system", "gpt")
_ROLES: dict[str, Literal["user", "assistant"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
}


@dataclass(frozen=True, slots=True)
class LlavaReader:
    """Samples of a LLaVA-format file: a list, or lines, of {id, image, conversations}.

    Qwen-VL's records, which name their image in the text (`<img>a.jpg</img>`), are read as well.
    The `<image>` marker is taken out of the text: the chat format says where images stand.
    Questions without an answer are left out. The file is read in a stream.

    Args:
        conversations: the JSON or JSONL file.
        images: folder that the records' `image` paths start from; None where no record has one.
        dialect: how locations stand in the text, such as `llava` in LLaVA-1.5's mix; they become
            pixels, so that the model's own coordinates can write them. None leaves text as it is.
        limit: stop after that many records; None reads all.

    Raises:
        ConfigError: no file is given.
    """

    conversations: str | None
    images: str | None
    dialect: Dialect | None = None
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
            ConfigError: a record has an image, and no folder is given.
            DataError: the file is no list of records, or the image folder is missing.
        """
        if self.images is not None:
            check_folder(self.images)
        for key, where, record in keyed_records(str(self.conversations), self.limit, quarantine):
            try:
                yield self._sample(key, where, record, quarantine)
            except DataError as error:
                quarantine.add(key, error)

    def _sample(self, key: str, where: str, record: Any, quarantine: Quarantine) -> Sample:
        messages = read_turns(record, where)
        answered = answered_turns(messages)
        if not answered:
            raise DataError("conversation without an answer", where=where)
        if len(answered) < len(messages):
            quarantine.add(key, DataError("question without an answer", where=where))
        extra = {name: str(record[name]) for name in ("kind", "type") if is_id(record.get(name))}
        image, size = None, None
        if found := single_image(record, where):
            folder = check_folder(self.images)
            extra["image"] = image_name(found, folder)
            image, size = read_image(folder, extra["image"])
            answered = tuple(self._located(message, size) for message in answered)
        return Sample(key, where, image, size, messages=answered, extra=extra)

    def _located(self, message: Message, size: Size) -> Message:
        if self.dialect is None:
            return message
        return replace(message, parts=self.dialect.read("".join(map(str, message.parts)), size))


def keyed_records(
    file: str, limit: int | None, quarantine: Quarantine
) -> Iterator[tuple[str, str, Any]]:
    """(key, where, record) of a list or lines of records; LLaVA's ids are not unique, keys are.

    Args:
        file: JSON, or JSON Lines where its name ends in .jsonl.
        limit: how many are looked at; None is all.
        quarantine: of malformed lines.

    Raises:
        DataError: the file is missing or malformed, or no list.
    """
    seen: set[str] = set()
    for n, record in enumerate(islice(_records(file, quarantine), limit)):
        key = record.get("id", n) if isinstance(record, dict) else n
        key = str(key if is_id(key) else n)
        while key in seen:
            key = f"{key}-{n}"
        seen.add(key)
        yield key, f"{file}, record {n}", record


def _records(file: str, quarantine: Quarantine) -> Iterator[Any]:
    if file.endswith(".jsonl"):
        for _, record in read_jsonl(file, lambda error: quarantine.add(str(error.where), error)):
            yield record
        return
    try:
        yield from iter_json(file, "item")
    except DataError as error:
        if isinstance(error.__cause__, OSError):  # no such file
            raise
        raise DataError(
            f"not a LLaVA file, or a damaged one: {error.what}",
            where=error.where,
            fix="it is a list of {id, image, conversations}; lines of them are called .jsonl",
        ) from None


def read_turns(record: Any, where: str) -> tuple[Message, ...]:
    """The turns of a record {image, conversations}, which alternate; without the image marker.

    A system's or an answering turn before the first question is left out, as in LLaVA's training.

    Raises:
        DataError: they do not alternate, one has no text, or there is a marker without an image.
    """
    turns = read_field(record, "conversations")
    if not isinstance(turns, list) or not turns:
        raise DataError("record without conversations", where=where)
    if isinstance(turns[0], dict) and turns[0].get("from") in _BEFORE:
        turns = turns[1:]
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
    if not messages:
        raise DataError("record without conversations", where=where)
    has_image = single_image(record, where) is not None
    if sum(str(message.parts[0]).count(IMAGE) for message in messages[::2]) > has_image:
        raise DataError(
            "text refers to more images than the record has",
            where=where,
            fix="give the record its image, or take <image> out of the text",
        )
    questions = [Message("user", (_unmarked(str(one.parts[0])),)) for one in messages[::2]]
    messages[::2] = questions
    return tuple(messages)


def _unmarked(text: str) -> str:
    """A question without what stands for the image in it."""
    # The marker stands on a line of its own before or after the question; the line goes with it.
    before, marker, after = PICTURE.sub("", text).partition(IMAGE)
    return before.rstrip() + after.lstrip() if marker else before


def answered_turns(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The questions that have an answer, with it."""
    pairs = zip(messages[::2], messages[1::2], strict=False)
    return tuple(
        message for pair in pairs if "".join(map(str, pair[1].parts)).strip() for message in pair
    )
