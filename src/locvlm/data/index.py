"""The index beside a shard: where each sample's members stand in the tar, and their checksums.

A JSON list with a row of six integers for each sample: offset, size and CRC-32 of its record, then
of its image; a sample without an image has size 0 there.
"""

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from locvlm.errors import DataError
from locvlm.io import read_json, write_text

_COLUMNS = 6
FAR = 1 << 60  # no offset is larger, and the sum of two stays below 64 bits


def write_index(shard: Path, checksums: Sequence[tuple[int, int]]) -> None:
    """Writes the index of a shard whose members' names end in -NUMBER.EXTENSION.

    Args:
        shard: the tar, just written.
        checksums: of the record and the image of each sample, in order.
    """
    places: dict[tuple[int, bool], tuple[int, int]] = {}
    with tarfile.open(shard) as tar:
        for info in tar:
            key, _, extension = info.name.partition(".")
            number = int(key.rpartition("-")[2])
            places[number, extension == "json"] = (info.offset_data, info.size)
    rows = [
        [*places[n, True], record, *places.get((n, False), (0, 0)), image]
        for n, (record, image) in enumerate(checksums)
    ]
    lines = ",\n".join(map(json.dumps, rows))
    write_text(index_path(shard), f"[\n{lines}\n]\n")


def read_index(shard: Path) -> NDArray[np.int64]:
    """The rows of a shard's index, (n, 6).

    Raises:
        DataError: it is missing or malformed.
    """
    path = index_path(shard)
    try:
        index = np.array(read_json(path))
    except ValueError as error:  # rows of different lengths
        raise _malformed(path, str(error)) from None
    if index.ndim != 2 or index.shape[1] != _COLUMNS or index.dtype.kind != "i":
        raise _malformed(path, f"it needs rows of {_COLUMNS} integers")
    if (index < 0).any() or (index > FAR).any():
        raise _malformed(path, "a number is out of range")
    return index


def lost(n_samples: int) -> NDArray[np.int64]:
    """Rows for as many samples that cannot be found: they lie behind the end of any file."""
    return np.full((n_samples, _COLUMNS), FAR)


def ends(index: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) bytes that the tar must have for each sample to be whole."""
    return np.maximum(index[:, 0] + index[:, 1], index[:, 3] + index[:, 4])


def index_path(shard: Path) -> Path:
    """The index of the shard at a path."""
    return shard.with_suffix(".index.json")


def member_key(shard: Path, number: int) -> str:
    """The name of a sample's members: safe whatever the sample's own key is, unique in the set."""
    return f"{shard.stem}-{number:06d}"


def _malformed(path: Path, why: str) -> DataError:
    return DataError(
        f"shard index is malformed: {why}", where=str(path), fix="prepare this data again"
    )
