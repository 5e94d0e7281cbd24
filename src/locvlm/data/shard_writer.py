"""Writes samples as WebDataset shards, several at a time.

A shard is a plain tar of `{key}.jpg` (or png, webp) and `{key}.json`, as webdataset reads it too;
an index of its members' offsets, sizes and checksums lies beside it. `Shards` reads both.

This process reads the samples, and writes the first ones as they come, so that few samples start no
other process. Later on the samples of each shard wait, pickled, in a file beside it for a process
that writes it: memory grows neither with samples nor with shards, and no byte depends on how many
processes there are.
"""

import json
import os
import pickle
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from multiprocessing import current_process
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from webdataset.writer import TarWriter

from locvlm.data.index import member_key, write_index
from locvlm.data.manifest import FORMAT, MANIFEST, MAX_SAMPLES, VERSION
from locvlm.data.processes import processes
from locvlm.data.quarantine import Quarantine
from locvlm.data.records import to_record
from locvlm.data.shards import kind_of
from locvlm.data.survey import plain_location
from locvlm.errors import ConfigError, DataError
from locvlm.io import atomic_folder, sha256, write_json, writing
from locvlm.objectives import single_instances
from locvlm.types import Sample

QUARANTINE = "quarantine.jsonl"
_EXTENSIONS = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}
_FEW = 1000  # samples, or the first shard's, that are written here
_MOST = 8  # processes: more would wait for the one that reads
Finish: TypeAlias = Callable[[Iterable[Sample], Quarantine, int], Iterable[Sample]]


def as_they_are(
    samples: Iterable[Sample], quarantine: Quarantine, n_threads: int
) -> Iterable[Sample]:
    """Samples that need no finish."""
    return samples


def write_shards(
    samples: Iterable[Sample],
    folder: str | Path,
    *,
    quarantine: Quarantine,
    per_shard: int = 1000,
    about: dict[str, Any] | None = None,
    finish: Finish = as_they_are,
) -> dict[str, Any]:
    """Writes samples as shards into `folder`, whole or not at all.

    The same samples give the same bytes.

    Args:
        samples: read while writing; memory does not grow with their number.
        folder: replaced if it holds shards already.
        quarantine: records that the reader set aside, and then those that `finish` does, in the
            order of samples; written beside the shards.
        per_shard: samples that go into each shard; it holds fewer where `finish` drops some.
        about: what else the manifest says, such as sources and seed.
        finish: gives what is stored of a shard's samples. It is called with them, with the
            quarantine of those that it sets aside, and with how many threads it may use. One that
            cannot be pickled, such as a lambda, keeps all work in this process.

    Returns:
        The manifest: counts, shards with checksums, reasons of quarantined records, `about`.

    Raises:
        ConfigError: `per_shard` is below 1 or above a million.
        DataError: there is no sample at all.
        LocVLMError: the disk is full, or a process that writes was killed.
    """
    if not 1 <= per_shard <= MAX_SAMPLES:
        what = f"per_shard must be 1 to {MAX_SAMPLES:,}, got {per_shard}"
        raise ConfigError(what, where="per_shard")
    total = _Written()
    with atomic_folder(folder, MANIFEST) as temporary:
        for written in _write(samples, per_shard, temporary, finish):
            total.update(written)
        quarantine.update(total.quarantine)
        if not total.shards:
            raise _no_sample(quarantine, str(folder))
        quarantine.write(temporary / QUARANTINE)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "counts": dict(total.counts),
            "kinds": dict(total.kinds),
            "categories": dict(total.categories),
            "quarantined": {"records": len(quarantine), "reasons": quarantine.reasons},
            "left_out": dict(quarantine.left_out),
            "shards": total.shards,
            **(about or {}),
        }
        write_json(temporary / MANIFEST, manifest)
    return manifest


@dataclass(slots=True)
class _Written:
    """What the manifest says of shards, and what was set aside while they were written."""

    shards: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    quarantine: Quarantine = field(default_factory=Quarantine)

    def add(self, sample: Sample) -> None:
        self.counts.update(_counts(sample))
        self.kinds[kind_of(sample)] += 1
        self.categories.update(instance.category for instance in sample.instances)

    def update(self, other: "_Written") -> None:
        self.shards += other.shards
        self.counts.update(other.counts)
        self.kinds.update(other.kinds)
        self.categories.update(other.categories)
        self.quarantine.update(other.quarantine)


def _write(
    samples: Iterable[Sample], per_shard: int, folder: Path, finish: Finish
) -> Iterator[_Written]:
    """Writes shards; gives what was written, in their order."""
    groups = enumerate(_groups(samples, per_shard))
    shards = ((folder / f"{number:06d}.tar", group) for number, group in groups)
    n_processes = _n_processes(finish)
    n_here = None if n_processes == 1 else -(-_FEW // per_shard)
    for path, group in islice(shards, n_here):
        yield _write_shard(path, group, finish, os.cpu_count() or 1)
    if (following := next(shards, None)) is None:
        return
    futures: deque[Future[_Written]] = deque()
    with processes(n_processes) as pool:
        for path, group in chain([following], shards):
            _put_off(path, group)
            futures.append(pool.submit(_write_waiting, path, finish))
            if len(futures) > n_processes + 1:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def _groups(samples: Iterable[Sample], size: int) -> Iterator[Iterator[Sample]]:
    """Runs of `size` samples, each to be used up before the next."""
    rest = iter(samples)
    for first in rest:
        yield chain([first], islice(rest, size - 1))


def _n_processes(finish: Finish) -> int:
    if current_process().daemon:  # which may start none
        return 1
    try:
        pickle.dumps(finish)
    except (AttributeError, TypeError, pickle.PicklingError):
        return 1
    return min(os.cpu_count() or 1, _MOST)


def _put_off(path: Path, samples: Iterable[Sample]) -> None:
    with writing(path), _waiting(path).open("wb") as file:
        for sample in samples:
            pickle.dump(sample, file, pickle.HIGHEST_PROTOCOL)


def _write_waiting(path: Path, finish: Finish) -> _Written:
    try:
        with _waiting(path).open("rb") as file:
            return _write_shard(path, _unpickled(file), finish, 1)
    finally:
        _waiting(path).unlink()


def _waiting(path: Path) -> Path:
    return path.with_suffix(".waiting")


def _unpickled(file: BinaryIO) -> Iterator[Sample]:
    with suppress(EOFError):
        while True:
            yield pickle.load(file)


def _write_shard(path: Path, samples: Iterable[Sample], finish: Finish, n_threads: int) -> _Written:
    """Writes a tar and its index; neither where no sample is left."""
    written = _Written()
    checksums: list[tuple[int, int]] = []
    # An open file, because webdataset's own opening of paths would run `pipe:` commands.
    with writing(path), path.open("wb") as stream, TarWriter(stream, mtime=0) as writer:
        for sample in finish(samples, written.quarantine, n_threads):
            record = json.dumps(to_record(sample), ensure_ascii=False, allow_nan=False)
            # A lone surrogate (from "\ud800" in someone's JSON) has no UTF-8.
            data = record.encode("utf-8", "backslashreplace")
            members: dict[str, Any] = {"__key__": member_key(path, len(checksums)), "json": data}
            image = sample.image or b""
            if image:
                members[_EXTENSIONS.get(image[:2], "img")] = image
            writer.write(members)
            checksums.append((zlib.crc32(data), zlib.crc32(image)))
            written.add(sample)
    if checksums:
        write_index(path, checksums)
        line = {"file": path.name, "samples": len(checksums), "sha256": sha256(path)}
        written.shards.append(line)
    else:
        path.unlink()
    return written


def _counts(sample: Sample) -> dict[str, int]:
    parts = [part for message in sample.messages for part in message.parts]
    said = {
        "locations": sum(not isinstance(part, str) for part in parts),
        "with_plain_locations": int(plain_location(sample) is not None),
    }
    return {
        "samples": 1,
        "images": int(sample.image is not None),
        "instances": len(sample.instances),
        "single_instances": len(single_instances(sample.instances)),
        "absent": len(sample.absent),
        "turns": sum(message.role == "assistant" for message in sample.messages),
        **(said if parts else {}),
    }


def _no_sample(quarantine: Quarantine, folder: str) -> DataError:
    last = quarantine.records[-1] if quarantine.records else {"where": "", "fix": ""}
    return DataError(
        f"no usable sample: {quarantine.summary or 'there are none'}",
        where=last["where"] or folder,
        fix=last["fix"] or "look at the files and settings of the source",
    )
