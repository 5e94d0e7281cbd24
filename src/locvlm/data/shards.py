"""WebDataset shards of samples: written once, read at any position.

A shard is a tar of `{key}.jpg` (or png, webp) and `{key}.json`, as webdataset reads it too. Beside
it lies an index of the members' offsets, so that a loader can read samples in any order and go on
after a stop where it was, without reading what it has seen.
"""

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from webdataset.writer import TarWriter

from locvlm.data.quarantine import Quarantine
from locvlm.errors import DataError
from locvlm.io import atomic_folder, read_json, safe_member, sha256, write_json
from locvlm.types import Box, Instance, Message, Part, Point, Sample

MANIFEST = "manifest.json"
QUARANTINE = "quarantine.jsonl"
FORMAT = "locvlm shards"
_IMAGES = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}
_MAX_JSON = 16_000_000


class Member(NamedTuple):
    """Where a file stands in a tar: its first byte and its length."""

    offset: int
    size: int


class Entry(NamedTuple):
    """One sample of a shard: its key, JSON member and, unless text-only, image member."""

    key: str
    json: Member
    image: Member | None


def write_shards(
    samples: Iterable[Sample],
    folder: str | Path,
    *,
    quarantine: Quarantine,
    per_shard: int = 1000,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes samples as shards into `folder`, whole or not at all.

    Args:
        samples: read while writing; memory does not grow with their number.
        folder: replaced if it holds shards already.
        quarantine: records that the reader set aside; written beside the shards.
        per_shard: samples in each shard.
        about: what else the manifest says, such as sources and seed.

    Returns:
        The manifest: counts, shards with checksums, reasons of quarantined records, `about`.

    Raises:
        DataError: there is no sample at all.
    """
    counts: Counter[str] = Counter()
    shards: list[dict[str, Any]] = []
    categories: Counter[str] = Counter()
    with atomic_folder(folder, MANIFEST) as temporary:
        for batch in _batches(samples, per_shard):
            name = f"{len(shards):06d}.tar"
            _write_tar(temporary / name, batch)
            checksum = sha256(temporary / name)
            shards.append({"file": name, "samples": len(batch), "sha256": checksum})
            for sample in batch:
                counts.update(_counted(sample))
                categories.update(instance.category for instance in sample.instances)
        quarantine.write(temporary / QUARANTINE)
        if not shards:
            raise DataError(
                f"no usable sample; {len(quarantine)} records were set aside: {quarantine.reasons}",
                where=str(folder),
            )
        manifest = {
            "format": FORMAT,
            "version": 1,
            "counts": dict(sorted(counts.items())),
            "categories": dict(sorted(categories.items())),
            "quarantined": {"records": len(quarantine), "reasons": quarantine.reasons},
            "shards": shards,
            **(about or {}),
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


class Shards:
    """Samples of a shard folder by position; each read touches its own bytes only.

    Args:
        folder: with tars written by `write_shards`, or by anything else in WebDataset's form.

    Raises:
        DataError: the folder holds no shards.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        files = sorted(self.folder.glob("*.tar"))
        if not files:
            raise DataError(
                "no shards (*.tar) here",
                where=str(self.folder),
                fix="make them with python -m locvlm.prepare output=FOLDER ...",
            )
        self._places = [(file, entry) for file in files for entry in _index(file)]
        self._open: tuple[Path, io.BufferedReader] | None = None
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, position: int) -> Sample:
        """The sample at `position`, 0 to len - 1.

        Raises:
            DataError: its members are cut short or damaged; names shard and member.
        """
        file, entry = self._places[position]
        where = f"{file}, sample {entry.key!r}"
        record = _parse(self._bytes(file, entry.json, where), where)
        image = self._bytes(file, entry.image, where) if entry.image else None
        try:
            return _from_record(entry.key, record, image, where)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"sample record is malformed: {error!r}", where=where) from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _bytes(self, file: Path, member: Member, where: str) -> bytes:
        # A forked worker must not share its parent's file position.
        if self._open is None or self._open[0] != file or self._pid != os.getpid():
            try:
                self._open, self._pid = (file, file.open("rb")), os.getpid()
            except OSError as error:
                raise DataError(f"shard cannot be opened: {error}", where=str(file)) from None
        handle = self._open[1]
        handle.seek(member.offset)
        data = handle.read(member.size)
        if len(data) < member.size:
            raise DataError(
                f"sample is cut short: {len(data):,} of {member.size:,} bytes",
                where=where,
                fix="prepare this shard again, or allow bad samples with data.max_bad_samples=10",
            )
        return data


def _batches(samples: Iterable[Sample], size: int) -> Iterable[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _write_tar(path: Path, samples: Sequence[Sample]) -> None:
    with path.open("wb") as stream:
        # An open file, because webdataset's own opening of paths would run `pipe:` commands.
        writer = TarWriter(stream, mtime=0)
        for n, sample in enumerate(samples):
            record = json.dumps(_to_record(sample), ensure_ascii=False).encode()
            members = {"__key__": f"{n:06d}", "json": record}
            if sample.image is not None:
                members[_IMAGES.get(sample.image[:2], "img")] = sample.image
            writer.write(members)
        writer.close()
    write_json(path.with_suffix(".index.json"), _scan(path))


def _index(file: Path) -> list[Entry]:
    stored = file.with_suffix(".index.json")
    try:
        rows = read_json(stored) if stored.is_file() else _scan(file)
        return [
            Entry(str(key), Member(*record), Member(*image) if image else None)
            for key, record, image in rows
        ]
    except (TypeError, ValueError) as error:
        raise DataError(f"shard index is malformed: {error}", where=str(stored)) from None


def _scan(file: Path) -> list[list[Any]]:
    """Rows [key, json member, image member or None]; a tar cut short gives what it still holds."""
    groups: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(file) as tar:
            for info in tar:
                stem, _, kind = info.name.partition(".")
                if info.isfile() and safe_member(info.name) and kind:
                    groups.setdefault(stem, {})[kind] = Member(info.offset_data, info.size)
    except tarfile.TarError as error:
        if not groups:
            raise DataError(f"not a tar: {error}", where=str(file)) from None
    rows = []
    for stem, members in groups.items():
        if "json" in members:
            image = next((members[kind] for kind in (*_KINDS, "img") if kind in members), None)
            rows.append([stem, members["json"], image])
    return rows


_KINDS = (*_IMAGES.values(), "jpeg")


def _parse(data: bytes, where: str) -> dict[str, Any]:
    if len(data) > _MAX_JSON:
        raise DataError(f"sample record of {len(data):,} bytes is too large", where=where)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"sample record is not JSON: {error}", where=where) from None
    if not isinstance(record, dict):
        raise DataError("sample record is no JSON object", where=where)
    return record


def _to_record(sample: Sample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "source": sample.source,
        "size": sample.size,
        "instances": [
            {
                "category": one.category,
                "box": one.box,
                "description": one.description,
                "crowd": one.crowd,
            }
            for one in sample.instances
        ],
        "absent": sample.absent,
        "messages": [
            {"role": message.role, "parts": [_to_json(part) for part in message.parts]}
            for message in sample.messages
        ],
        "extra": dict(sample.extra),
    }


def _from_record(key: str, record: dict[str, Any], image: bytes | None, where: str) -> Sample:
    size = record.get("size")
    instances = (
        Instance(one["category"], Box(*one["box"]), one.get("description"), bool(one.get("crowd")))
        for one in record.get("instances", ())
    )
    messages = (
        Message(one["role"], tuple(_from_json(part) for part in one["parts"]))
        for one in record.get("messages", ())
    )
    sample = Sample(
        key=str(record.get("key", key)),
        source=where,
        image=image,
        size=(int(size[0]), int(size[1])) if size else None,
        instances=tuple(instances),
        absent=tuple(record.get("absent", ())),
        messages=tuple(messages),
        extra=record.get("extra", {}),
    )
    return replace(sample, source=f"{where} ({record['source']})" if "source" in record else where)


def _to_json(part: Part) -> Any:
    return part if isinstance(part, str) else list(part)


def _from_json(part: Any) -> Part:
    if isinstance(part, str):
        return part
    return Box(*part) if len(part) == 4 else Point(*part)


def _counted(sample: Sample) -> dict[str, int]:
    return {
        "samples": 1,
        "images": int(sample.image is not None),
        "instances": len(sample.instances),
        "absent": len(sample.absent),
        "turns": sum(message.role == "assistant" for message in sample.messages),
    }
