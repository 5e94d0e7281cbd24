"""Rewrites the locations in a file of conversations from one dialect into another."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import read_field
from locvlm.data.readers.images import check_folder, image_name, read_image, record_images
from locvlm.dialects import Dialect, Swift
from locvlm.errors import ConfigError, DataError
from locvlm.io import atomic_file, read_jsonl
from locvlm.json_stream import iter_json
from locvlm.types import Part, Size

AnyDialect: TypeAlias = Dialect | Swift
# Where the texts of turns stand: in LLaVA's records, and in ms-swift's.
_TURNS = {"conversations": "value", "messages": "content"}


@dataclass(slots=True)
class Conversion:
    """What a conversion did.

    Args:
        records: written, changed or not.
        turns: in those records.
        locations: converted in them.
        left: what looks like a location but is none of its image, and was left as text.
        quarantine: records that are not in the output.
    """

    records: int = 0
    turns: int = 0
    locations: int = 0
    left: int = 0
    quarantine: Quarantine = field(default_factory=Quarantine)


def convert_file(
    source: str | Path,
    output: str | Path,
    *,
    read: AnyDialect,
    write: AnyDialect,
    images: str | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Rewrites a JSON list or JSON Lines file of LLaVA's or ms-swift's records, one by one.

    Everything but the texts of turns (and ms-swift's `objects`) stays as it is. The output is a
    list or lines as its own name says, and is there whole or not at all; what was set aside stands
    beside it in NAME.quarantine.jsonl.

    Args:
        source: the file to read.
        output: the file to write.
        read: the dialect of `source`.
        write: the dialect of `output`.
        images: folder of the images; asked for sizes where records have no `width` and `height`.
        overwrite: replaces an `output` that is there.

    Raises:
        ConfigError: `output` is there or is `source` itself, or `images` is needed.
        DataError: `source` is missing or malformed, or no record could be converted.
    """
    source, output = Path(source), Path(output)
    _check_output(source, output, overwrite)
    folder = None if images is None else check_folder(images)
    done = Conversion()
    as_lines = output.suffix == ".jsonl"
    with atomic_file(output) as file:
        file.write(b"" if as_lines else b"[")
        for made in _converted(source, read, write, folder, done):
            text = json.dumps(made, ensure_ascii=False)
            start = "" if as_lines else ",\n" if done.records else "\n"
            end = "\n" if as_lines else ""
            # A lone surrogate has no UTF-8; its escape is JSON as well.
            file.write(f"{start}{text}{end}".encode(errors="backslashreplace"))
            done.records += 1
        file.write(b"" if as_lines else b"\n]\n")
        if not done.records:
            reasons = done.quarantine.reasons
            raise DataError(
                f"no record could be converted; set aside: {reasons}", where=str(source)
            )
    aside = quarantine_file(output)
    aside.unlink(missing_ok=True)
    if len(done.quarantine):
        done.quarantine.write(aside)
    return done


def quarantine_file(output: str | Path) -> Path:
    """Where the records that are not in `output` are named.

    >>> quarantine_file("sets/shikra.json").name
    'shikra.quarantine.jsonl'
    """
    return Path(output).with_suffix(".quarantine.jsonl")


def convert_record(
    record: Any,
    read: AnyDialect,
    write: AnyDialect,
    folder: Path | None,
    where: str,
    done: Conversion,
) -> dict[str, Any]:
    """A copy of a record with its locations in another dialect; counts them in `done`.

    Raises:
        ConfigError: the size of the image is needed, and there is no `folder`.
        DataError: the record cannot be converted.
    """
    name, texts = _texts(record)
    mentioned = sum(map(read.mentions, texts))
    pictured = bool(record_images(record))
    if not pictured and not isinstance(read, Swift):
        turns: list[tuple[Part, ...]] = [(text,) for text in texts]
        size = (1, 1)
    else:
        # Names without locations need no size.
        size = _size(record, folder, where) if mentioned else (1, 1)
        if isinstance(read, Swift):
            turns = read.read(texts, record.get("objects"), size)
        else:
            turns = [read.read(text, size) for text in texts]
    located = sum(not isinstance(part, str) for parts in turns for part in parts)
    made = {
        key: value
        for key, value in record.items()
        if key != "objects" or not isinstance(read, Swift)
    }
    if isinstance(write, Swift):
        texts, objects = write.write(turns, size)
        made |= {"objects": objects} if objects else {}
    else:
        texts = [write.write(parts, size) for parts in turns]
    pairs = zip(record[name], texts, strict=True)
    made[name] = [{**turn, _TURNS[name]: text} for turn, text in pairs]
    done.turns += len(texts)
    done.locations += located
    done.left += max(0, mentioned - located)
    return made


def _texts(record: Any) -> tuple[str, list[str]]:
    for name, key in _TURNS.items():
        turns = read_field(record, name)
        if isinstance(turns, list) and turns:
            texts = [turn.get(key) if isinstance(turn, dict) else None for turn in turns]
            if not all(isinstance(text, str) for text in texts):
                raise DataError("turn without text")
            return name, texts  # type: ignore[return-value]
    raise DataError("record without conversations or messages")


def _size(record: dict[str, Any], folder: Path | None, where: str) -> Size:
    names = record_images(record)
    if len(names) != 1:
        raise DataError(f"record with locations has {len(names)} images, not one")
    stated = record.get("width"), record.get("height")
    if all(type(side) is int and 0 < side < 1 << 31 for side in stated):
        return stated  # type: ignore[return-value]
    if folder is None:
        raise ConfigError(
            "the size of an image is needed: its record has no width and height",
            where=where,
            fix="add images=FOLDER",
        )
    return read_image(folder, image_name(names[0], folder))[1]


def _converted(
    source: Path, read: AnyDialect, write: AnyDialect, folder: Path | None, done: Conversion
) -> Iterator[dict[str, Any]]:
    for n, record in _records(source, done.quarantine):
        where = f"{source}, record {n}"
        try:
            yield convert_record(record, read, write, folder, where, done)
        except DataError as error:
            key = record.get("id", n) if isinstance(record, dict) else n
            named = DataError(error.what, where=error.where or where, fix=error.fix)
            done.quarantine.add(str(key)[:200], named)


def _records(source: Path, quarantine: Quarantine) -> Iterator[tuple[int, Any]]:
    if source.suffix == ".jsonl":
        lines = read_jsonl(source, lambda error: quarantine.add(str(error.where), error))
        yield from ((n, record) for n, (_, record) in enumerate(lines))
    else:
        yield from enumerate(iter_json(source, "item"))


def _check_output(source: Path, output: Path, overwrite: bool) -> None:
    if output.resolve() == source.resolve():
        raise ConfigError(
            "input and output are the same file", where=str(output), fix="choose another output"
        )
    if output.exists() and not (overwrite and output.is_file()):
        raise ConfigError(
            "the output is there already",
            where=str(output),
            fix="choose another output, or overwrite=true",
        )
