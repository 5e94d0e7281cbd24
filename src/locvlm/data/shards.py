"""Shards of samples, read at any position; `shard_writer` writes them.

With the index beside it, a loader can read a shard's samples in any order, and go on after a stop
where it was without reading what it has seen.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from locvlm.data.index import FAR, ends, index_path, lost, member_key, read_index
from locvlm.data.manifest import MANIFEST, Listed, listed_shards
from locvlm.data.records import from_record
from locvlm.data.remote import find_remote
from locvlm.errors import DataError
from locvlm.images import MAX_BYTES
from locvlm.types import Sample

_MAX_RECORD = 16_000_000  # bytes
_AGAIN = "prepare this shard again, or allow bad samples with data.max_bad_samples=10"


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
        ConfigError, LocVLMError: an object store cannot be read, as in `find_remote`.
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
            LocVLMError: its shard cannot be fetched from the object store.
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
        return f"{file}, sample {member_key(file, position - int(self._starts[shard]))}"

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


def kind_of(sample: Sample) -> str:
    """What a sample is for counts: an annotated image, or the kind of its conversation."""
    if not sample.messages:
        return "annotated image"
    kind = sample.extra.get("kind") or sample.extra.get("type")
    return kind or ("conversation" if sample.image is not None else "text-only conversation")
