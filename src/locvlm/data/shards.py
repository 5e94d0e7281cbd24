"""WebDataset shards of samples: written once, read at any position.

A shard is a plain tar of `{key}.jpg` (or png, webp) and `{key}.json`, as webdataset reads it too.
Beside it lies an index of its members' offsets, sizes and checksums, so that a loader can read
samples in any order, and go on after a stop where it was without reading what it has seen.
"""

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from webdataset.writer import TarWriter

from locvlm.data.index import FAR, ends, index_path, lost, read_index, write_index
from locvlm.data.manifest import FORMAT, MANIFEST, MAX_SAMPLES, VERSION, Listed, listed_shards
from locvlm.data.quarantine import Quarantine
from locvlm.data.records import from_record, to_record
from locvlm.data.remote import find_remote
from locvlm.errors import ConfigError, DataError, LocVLMError
from locvlm.images import MAX_BYTES
from locvlm.io import atomic_folder, sha256, write_json
from locvlm.objectives import single_instances
from locvlm.types import Sample

QUARANTINE = "quarantine.jsonl"
_EXTENSIONS = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}
_MAX_RECORD = 16_000_000  # bytes
_AGAIN = "prepare this shard again, or allow bad samples with data.max_bad_samples=10"


def write_shards(
    samples: Iterable[Sample],
    folder: str | Path,
    *,
    quarantine: Quarantine,
    per_shard: int = 1000,
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes samples as shards into `folder`, whole or not at all.

    The same samples give the same bytes.

    Args:
        samples: read while writing; memory does not grow with their number.
        folder: replaced if it holds shards already.
        quarantine: records that the reader set aside; written beside the shards.
        per_shard: samples in each shard.
        about: what else the manifest says, such as sources and seed.

    Returns:
        The manifest: counts, shards with checksums, reasons of quarantined records, `about`.

    Raises:
        ConfigError: `per_shard` is below 1 or above a million.
        DataError: there is no sample at all.
    """
    counts, kinds, categories = Counter[str](), Counter[str](), Counter[str]()

    def counted(group: Iterable[Sample]) -> Iterator[Sample]:
        for sample in group:
            counts.update(_counts(sample))
            kinds.update([kind_of(sample)])
            categories.update(instance.category for instance in sample.instances)
            yield sample

    with atomic_folder(folder, MANIFEST) as temporary:
        shards = [
            _write_shard(temporary / f"{number:06d}.tar", counted(group))
            for number, group in enumerate(_groups(samples, per_shard))
        ]
        if not shards:
            raise _no_sample(quarantine, str(folder))
        quarantine.write(temporary / QUARANTINE)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "counts": dict(counts),
            "kinds": dict(kinds),
            "categories": dict(categories),
            "quarantined": {"records": len(quarantine), "reasons": quarantine.reasons},
            "left_out": dict(quarantine.left_out),
            "shards": shards,
            **(about or {}),
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


class Shards:
    """Samples of a shard folder by position; each read touches its own bytes only.

    Args:
        folder: written by `write_shards`; a path, or the URL of an object store, whose shards are
            fetched when the first of their samples is read.
        cache: where shards of an object store are kept; None takes `~/.cache/locvlm/shards`.

    Attributes:
        readable: (M,) the positions of all samples but those in shards that are missing, cut
            short or without an index that can be read.
        lengths: how many of them each shard holds.

    Raises:
        DataError: the folder holds no shards, or its manifest or every index is damaged.
    """

    def __init__(self, folder: str | Path, cache: str | Path | None = None):
        self._remote = find_remote(str(folder), cache, MANIFEST)
        self.folder = Path(folder) if self._remote is None else self._remote.folder
        self._listed = listed_shards(self.folder)
        self._files = [one.file for one in self._listed]
        if self._remote is not None:
            for file in self._files:
                self._remote.fetch(index_path(file).name)
        self._damaged: dict[Path, DataError] = {}
        indices = [self._read_index(one) for one in self._listed]
        if len(self._damaged) == len(self._files):
            raise self._damaged[self._files[0]]
        self._index = np.concatenate(indices)
        self._starts = np.cumsum([0, *(len(index) for index in indices)])
        whole = [
            ends(index) <= (_size(file) if self._remote is None else FAR)
            for index, file in zip(indices, self._files, strict=True)
        ]
        self.lengths = [int(flags.sum()) for flags in whole]
        self.readable = np.flatnonzero(np.concatenate(whole))

    def __len__(self) -> int:
        return len(self._index)

    def unreadable(self) -> list[str]:
        """Names each sample that is not `readable`, with the reason."""
        positions = np.setdiff1d(np.arange(len(self)), self.readable).tolist()
        return [f"{self._loss(position)}: {self._where(position)}" for position in positions]

    def __getitem__(self, position: int) -> Sample:
        """The sample at `position`, 0 to len - 1.

        Raises:
            DataError: it is cut short or damaged; names the shard and the sample.
        """
        where = self._where(position)
        file, _, checksum = self._listed[self._shard(position)]
        if self._remote is not None:
            self._remote.fetch(file.name, checksum)
        record, image = self._read(file, self._index[position].tolist(), where)
        return from_record(_parse(record, where), image, where)

    def _read_index(self, shard: Listed) -> np.ndarray:
        try:
            return read_index(shard.file)
        except DataError as error:
            self._damaged[shard.file] = error
            return lost(shard.n_samples)

    def _loss(self, position: int) -> str:
        error = self._damaged.get(self._files[self._shard(position)])
        return error.what if error else "sample is cut off"

    def _shard(self, position: int) -> int:
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _where(self, position: int) -> str:
        shard = self._shard(position)
        file = self._files[shard]
        return f"{file}, sample {_key(file, position - int(self._starts[shard]))}"

    @staticmethod
    def _read(file: Path, row: list[int], where: str) -> tuple[bytes, bytes | None]:
        try:
            with file.open("rb", buffering=0) as stream:
                end = stream.seek(0, os.SEEK_END)
                members = []
                parts = (row[:3], _MAX_RECORD), (row[3:], MAX_BYTES)
                for (offset, size, checksum), most in parts:
                    _check_size(min(size, end - offset), size, most, where)
                    stream.seek(offset)
                    data = stream.read(size)
                    if zlib.crc32(data) != checksum:
                        raise DataError(
                            "sample is damaged: its checksum differs", where=where, fix=_AGAIN
                        )
                    members.append(data)
        except OSError as error:
            raise DataError(
                f"shard cannot be read: {error.strerror or error}", where=where, fix=_AGAIN
            ) from None
        return members[0], members[1] or None


def _no_sample(quarantine: Quarantine, folder: str) -> DataError:
    last = quarantine.records[-1] if quarantine.records else {"where": "", "fix": ""}
    return DataError(
        f"no usable sample: {quarantine.summary or 'there are none'}",
        where=last["where"] or folder,
        fix=last["fix"] or "look at the files and settings of the source",
    )


def _groups(samples: Iterable[Sample], size: int) -> Iterator[Iterator[Sample]]:
    """Runs of `size` samples, each to be used up before the next."""
    if not 1 <= size <= MAX_SAMPLES:
        raise ConfigError(f"per_shard must be 1 to {MAX_SAMPLES:,}, got {size}", where="per_shard")
    rest = iter(samples)
    for first in rest:
        yield chain([first], islice(rest, size - 1))


def _write_shard(path: Path, samples: Iterable[Sample]) -> dict[str, Any]:
    """Writes a tar and its index; returns the manifest's line about it."""
    checksums: list[tuple[int, int]] = []
    try:
        # An open file, because webdataset's own opening of paths would run `pipe:` commands.
        with path.open("wb") as stream, TarWriter(stream, mtime=0) as writer:
            for sample in samples:
                record = json.dumps(to_record(sample), ensure_ascii=False, allow_nan=False)
                # A lone surrogate (from "\ud800" in someone's JSON) has no UTF-8.
                data = record.encode("utf-8", "backslashreplace")
                members: dict[str, Any] = {"__key__": _key(path, len(checksums)), "json": data}
                image = sample.image or b""
                if image:
                    members[_EXTENSIONS.get(image[:2], "img")] = image
                writer.write(members)
                checksums.append((zlib.crc32(data), zlib.crc32(image)))
    except OSError as error:
        raise LocVLMError(
            f"cannot write this: {error.strerror or error}", where=str(path)
        ) from None
    write_index(path, checksums)
    return {"file": path.name, "samples": len(checksums), "sha256": sha256(path)}


def _key(shard: Path, number: int) -> str:
    """The name of a sample's members: safe whatever the sample's own key is, unique in the set."""
    return f"{shard.stem}-{number:06d}"


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _check_size(available: int, size: int, most: int, where: str) -> None:
    if available < size:
        raise DataError(
            f"sample is cut short: {max(0, available):,} of {size:,} bytes", where=where, fix=_AGAIN
        )
    if size > most:
        raise DataError(f"sample is too large: {size:,} bytes, {most:,} allowed", where=where)


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"sample record is not JSON: {error}", where=where) from None


def _counts(sample: Sample) -> dict[str, int]:
    return {
        "samples": 1,
        "images": int(sample.image is not None),
        "instances": len(sample.instances),
        "single_instances": len(single_instances(sample.instances)),
        "absent": len(sample.absent),
        "turns": sum(message.role == "assistant" for message in sample.messages),
    }


def kind_of(sample: Sample) -> str:
    """What a sample is for counts: an annotated image, or the kind of its conversation."""
    if not sample.messages:
        return "annotated image"
    kind = sample.extra.get("kind") or sample.extra.get("type")
    return kind or ("conversation" if sample.image is not None else "text-only conversation")
