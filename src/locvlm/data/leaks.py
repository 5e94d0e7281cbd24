"""Benchmark images that stand in training data: the same COCO image, or the very same bytes."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locvlm.data.manifest import MANIFEST
from locvlm.data.shards import Shards
from locvlm.errors import DataError
from locvlm.io import read_json, read_jsonl
from locvlm.types import Sample

NO_ID = -1
NO_DIGEST = 0
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
# COCO names its images by 12 digits, of which ids fill six. Other numbers are no COCO ids: a date
# such as 202311241530 has 12 digits too, and many sets count their records from 1.
_COCO_DIGITS = 6
_COCO_NAME = re.compile(r"(?<!\d)0{6}(\d{6})(?!\d)")


class Identity(NamedTuple):
    """What tells an image: its COCO id (`NO_ID` where unknown), a digest of its bytes."""

    coco_id: int = NO_ID
    digest: int = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Benchmark:
    """The images of a benchmark.

    Args:
        name: the path it was read from.
        coco_ids: (n,) one for each image; `NO_ID` where unknown.
        digests: (n,) likewise; `NO_DIGEST` where only a name is known.
    """

    name: str
    coco_ids: NDArray[np.int64]
    digests: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.coco_ids)


@dataclass(frozen=True, slots=True)
class Leak:
    """What training data and a benchmark share.

    Args:
        benchmark: its name.
        n_images: of the benchmark.
        n_unknown: those of them that nothing can be compared with.
        n_has_bytes: those of them whose bytes are known, not only their names.
        n_leaked: those that stand in the training data.
        n_by_id: those of them that their COCO id tells.
        n_by_bytes: those of them whose very bytes stand there.
        positions: training samples that show them.
    """

    benchmark: str
    n_images: int
    n_unknown: int
    n_has_bytes: int
    n_leaked: int
    n_by_id: int
    n_by_bytes: int
    positions: tuple[int, ...]


def coco_id(name: str) -> int:
    """The id in a COCO file name, `NO_ID` in any other.

    >>> coco_id("train2014/COCO_train2014_000000458752.jpg"), coco_id("000000039769.png")
    (458752, 39769)
    >>> coco_id("images/39769.png")
    -1
    """
    found = _COCO_NAME.search(re.split(r"[/\\]", name)[-1])
    return int(found[1]) if found else NO_ID


def identity(sample: Sample) -> Identity:
    """Of a sample's image; its COCO id from its file's name, or its key where no name is known."""
    if sample.image is None:
        return Identity()
    return Identity(coco_id(sample.extra.get("image", sample.key)), digest(sample.image))


def digest(data: bytes) -> int:
    """64 bits that tell these bytes; never `NO_DIGEST`."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") or 1


def read_benchmark(path: str | Path) -> Benchmark:
    """The images of a benchmark.

    Args:
        path: a folder of shards or of image files, or a JSON or JSON Lines file whose records
            name images (`file_name`, `image` or `image_id`): COCO's, POPE's, VQA's, LLaVA's.

    Raises:
        DataError: there is no such path, or no image in it.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        images = list(_shard_images(Shards(path)))
    elif path.is_dir():
        images = list(_files(path))
    else:
        names = dict.fromkeys(image_names(_values(path)))
        images = [Identity(coco_id(n) if isinstance(n, str) else n) for n in names]
    if not images:
        raise DataError(
            "no image of a benchmark is here",
            where=str(path),
            fix="give a folder of images or shards, or JSON whose records have file_name, image, "
            "image_id or imageId",
        )
    return Benchmark(
        str(path),
        np.array([image.coco_id for image in images], dtype=np.int64),
        np.array([image.digest for image in images], dtype=np.uint64),
    )


def image_names(value: Any) -> Iterator[str | int]:
    """What records below a JSON value call their images: file names, and ids as numbers.

    A file name goes before an id: other sets than COCO number their images as well.
    """
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("images"), list) and "annotations" in value:
            value = {"images": value["images"]}  # COCO's annotations name the same images by id
        if (name := _name(value)) is not None:
            yield name
        waiting += reversed([one for one in value.values() if isinstance(one, list | dict)])


def find_leak(
    coco_ids: Sequence[int] | NDArray[np.int64],
    digests: Sequence[int] | NDArray[np.uint64],
    benchmark: Benchmark,
) -> Leak:
    """What training samples and a benchmark share.

    Args:
        coco_ids: of each training sample's image; `NO_ID` where unknown.
        digests: likewise; `NO_DIGEST` without an image.
        benchmark: to compare with.
    """
    ids, prints = np.asarray(coco_ids, np.int64), np.asarray(digests, np.uint64)
    by_id = np.isin(benchmark.coco_ids, ids) & (benchmark.coco_ids != NO_ID)
    by_bytes = np.isin(benchmark.digests, prints) & (benchmark.digests != NO_DIGEST)
    shown = (np.isin(ids, benchmark.coco_ids) & (ids != NO_ID)) | (
        np.isin(prints, benchmark.digests) & (prints != NO_DIGEST)
    )
    unknown = (benchmark.coco_ids == NO_ID) & (benchmark.digests == NO_DIGEST)
    return Leak(
        benchmark.name,
        n_images=len(benchmark),
        n_unknown=int(unknown.sum()),
        n_has_bytes=int((benchmark.digests != NO_DIGEST).sum()),
        n_leaked=int((by_id | by_bytes).sum()),
        n_by_id=int(by_id.sum()),
        n_by_bytes=int(by_bytes.sum()),
        positions=tuple(np.flatnonzero(shown).tolist()),
    )


def _shard_images(shards: Shards) -> Iterator[Identity]:
    seen = set()
    for position in range(len(shards)):
        try:
            sample = shards[position]
        except DataError:
            yield Identity()
            continue
        if sample.image is None:
            continue
        found = identity(sample)
        if found not in seen:  # several conversations may be about one image
            seen.add(found)
            yield found


def _files(folder: Path) -> Iterator[Identity]:
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in SUFFIXES and file.is_file():
            try:
                yield Identity(coco_id(file.name), digest(file.read_bytes()))
            except OSError:
                yield Identity(coco_id(file.name))


def _values(path: Path) -> list[Any]:
    """All of a file's JSON values: one, or one on each line, whatever the file's name says."""
    try:
        return [read_json(path)]
    except DataError as error:
        try:
            return [value for _, value in read_jsonl(path)]
        except DataError:
            raise error from None


def _name(record: dict[str, Any]) -> str | int | None:
    for field in ("file_name", "image", "imageId"):  # the last one is GQA's, whose ids are others
        if isinstance(name := record.get(field), str):
            return name
    number = record.get("image_id")
    if not isinstance(number, int | str) or isinstance(number, bool):
        return None
    digits = str(number)
    return int(digits) if digits.isdecimal() and len(digits) <= _COCO_DIGITS else digits or None
