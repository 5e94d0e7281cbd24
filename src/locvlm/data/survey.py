"""Counts over all samples of a source: images, boxes, words, categories; nothing is decoded.

Memory stays small: counts, a few examples of each problem, and 24 bytes a sample to find doubles.
"""

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from locvlm.data.leaks import NO_DIGEST, Identity, digest, identity
from locvlm.data.shards import Shards, kind_of
from locvlm.errors import DataError
from locvlm.images import image_size
from locvlm.objectives import nameable_instances, single_instances
from locvlm.types import Location, Sample, Size

Problem: TypeAlias = Literal["bad", "other size", "outside", "no area", "unit square", "plain text"]
EXAMPLES = 8  # samples that are named for each problem
WORDS = (
    *("left", "right", "above", "below", "top", "bottom", "behind", "in front of"),
    *("next to", "beside", "near", "under", "between"),
)
_WORD = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)
_NUMBER = r"\s*-?\d+(?:\.\d+)?\s*"
# Four numbers in brackets, as most models write a box, or the marks of Kosmos-2, Qwen-VL, Molmo.
_PLAIN_LOCATION = re.compile(
    rf"[\[(]{_NUMBER}(?:,{_NUMBER}){{3}}[\])]|<patch_index_|<box>|<\|box_start|<points? x"
)
_OVERHANG = 1.0  # pixels beyond the edge that rounding explains


class Quantiles(NamedTuple):
    """Of whole numbers."""

    min: int
    median: int
    p95: int
    max: int


class Example(NamedTuple):
    """One sample with a problem: its position, what is wrong, and where it was read."""

    position: int
    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what}: {self.where}" if self.where else self.what


@dataclass(slots=True)
class Survey:
    """What stands in the samples of a source.

    Args:
        n_samples: that were read, bad ones counted in.
        kinds: samples by kind of conversation, or annotated image.
        widths: images by width in pixels.
        heights: likewise.
        counts: instances, crowds, single instances, annotated images, those with an instance that
            objectives can name, messages of each role, and locations in annotations and messages.
        problems: samples by problem.
        examples: the first `EXAMPLES` of each problem.
        words: occurrences by word and where it stands: user, assistant, description.
        categories: instances by category, crowds left out.
        singles: likewise, those that are the only one of their image.
        keys: a digest of each sample's key, by position.
        digests: of each sample's image, by position; `NO_DIGEST` without an image.
        coco_ids: by position; `NO_ID` where there is none.
    """

    n_samples: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)
    heights: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    problems: Counter[Problem] = field(default_factory=Counter)
    examples: dict[Problem, list[Example]] = field(default_factory=dict)
    words: Counter[tuple[str, str]] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    singles: Counter[str] = field(default_factory=Counter)
    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    digests: "array[int]" = field(default_factory=lambda: array("Q"))
    coco_ids: "array[int]" = field(default_factory=lambda: array("q"))


def survey(samples: Iterable[Sample | DataError]) -> Survey:
    """Counts over samples in the order of their positions; an error stands for a bad sample."""
    found = Survey()
    for position, sample in enumerate(samples):
        found.n_samples += 1
        if isinstance(sample, DataError):
            problems, where = _bad(sample), sample.where or ""
        else:
            problems, where = sample_problems(sample), sample.source
        for problem, what in problems.items():
            found.problems[problem] += 1
            named = found.examples.setdefault(problem, [])
            if len(named) < EXAMPLES:
                named.append(Example(position, what, where))
        if isinstance(sample, DataError) or "bad" in problems:
            _identify(found, NO_DIGEST, Identity())
        else:
            _count(found, sample)
    return found


def readable_samples(
    shards: Shards, on_sample: Callable[[], object] = lambda: None
) -> Iterator[Sample | DataError]:
    """The readable samples of a folder in order; an error in the place of a damaged one.

    Args:
        shards: of the folder.
        on_sample: called before each one, for progress bars.
    """
    for position in shards.readable.tolist():
        on_sample()
        try:
            yield shards[position]
        except DataError as error:
            yield error


def sample_problems(sample: Sample) -> dict[Problem, str]:
    """What is wrong with a sample, in words; judged from its image's header and its locations."""
    locations = _locations(sample)
    if sample.image is None or sample.size is None:
        if locations:
            return {"bad": f"{_rounded(locations[0])} stands in a sample without an image"}
        return _plain_text(sample)
    try:
        size = image_size(sample.image, sample.source)
    except DataError as error:
        return _bad(error)
    found = _plain_text(sample)
    if size != sample.size:
        found["other size"] = f"the image is {_size(size)}, its record says {_size(sample.size)}"
    for location in locations:
        if problem := location_problem(location, sample.size):
            what = f"{_rounded(location)} in {_size(sample.size)}"
            found.setdefault(problem, what)
    boxes = [location for location in locations if len(location) == 4]
    if boxes and all(min(box) >= 0 and max(box) <= 1 for box in boxes):
        found["unit square"] = f"{_rounded(boxes[0])} in {_size(sample.size)}"
    return found


def location_problem(location: Location, size: Size) -> Problem | None:
    """Whether a location has no place in its image, or no area.

    >>> location_problem((10, 10, 70, 30), (64, 64))
    'outside'
    >>> location_problem((10, 10, 5, 30), (64, 64))
    'no area'
    """
    x1, y1, x2, y2 = location if len(location) == 4 else (*location, *location)
    if len(location) == 4 and not (x2 > x1 and y2 > y1):
        return "no area"
    beyond = max(-x1, -y1, x2 - size[0], y2 - size[1])
    return "outside" if beyond > _OVERHANG else None


def plain_location(sample: Sample) -> str | None:
    """The first location that stands in the text of a turn as some model writes it."""
    for message in sample.messages:
        for part in message.parts:
            if isinstance(part, str) and (match := _PLAIN_LOCATION.search(part)):
                return match[0]
    return None


def quantiles(values: Counter[int]) -> Quantiles | None:
    """Smallest, median, 95th percentile (the next value that occurs) and largest.

    >>> quantiles(Counter([1, 2, 2, 9]))
    Quantiles(min=1, median=2, p95=9, max=9)
    """
    if not values:
        return None
    ordered = sorted(values)
    shares = np.cumsum([values[value] for value in ordered]) / values.total()
    at = [ordered[int(np.searchsorted(shares, share - 1e-12))] for share in (0.5, 0.95)]
    return Quantiles(ordered[0], at[0], at[1], ordered[-1])


def doubles(digests: "array[int]") -> list[list[int]]:
    """Positions of the samples that share a digest, in groups of two and more, first ones first."""
    values = np.frombuffer(digests, dtype=np.uint64)
    found, counts = np.unique(values, return_counts=True)
    shared = found[(counts > 1) & (found != NO_DIGEST)]
    order = np.argsort(values, kind="stable")
    starts = np.searchsorted(values, shared, sorter=order)
    ends = np.searchsorted(values, shared, side="right", sorter=order)
    return sorted(order[start:end].tolist() for start, end in zip(starts, ends, strict=True))


def _count(found: Survey, sample: Sample) -> None:
    found.kinds[kind_of(sample)] += 1
    if sample.image is not None and sample.size is not None:
        found.widths[sample.size[0]] += 1
        found.heights[sample.size[1]] += 1
    singles = single_instances(sample.instances)
    found.counts.update(
        {
            "instances": len(sample.instances),
            "crowds": sum(instance.crowd for instance in sample.instances),
            "single instances": len(singles),
            "annotated images": bool(sample.instances),
            "images with a nameable instance": bool(nameable_instances(sample.instances)),
            "locations": len(_locations(sample)),
        }
    )
    found.categories.update(one.category for one in sample.instances if not one.crowd)
    found.singles.update(one.category for one in singles)
    for message in sample.messages:
        text = " ".join(part for part in message.parts if isinstance(part, str))
        found.counts[f"{message.role} turns"] += 1
        found.words.update((word.lower(), message.role) for word in _WORD.findall(text))
    for instance in sample.instances:
        words = _WORD.findall(instance.description or "")
        found.words.update((word.lower(), "description") for word in words)
    key = digest(sample.key.encode("utf-8", "replace"))
    _identify(found, key, identity(sample))


def _identify(found: Survey, key: int, image: Identity) -> None:
    found.keys.append(key)
    found.digests.append(image.digest)
    found.coco_ids.append(image.coco_id)


def _bad(error: DataError) -> dict[Problem, str]:
    return {"bad": error.what}


def _plain_text(sample: Sample) -> dict[Problem, str]:
    found = plain_location(sample)
    return {"plain text": repr(found)} if found else {}


def _locations(sample: Sample) -> list[Location]:
    annotated: list[Location] = [instance.box for instance in sample.instances]
    parts = (part for message in sample.messages for part in message.parts)
    return annotated + [part for part in parts if not isinstance(part, str)]


def _rounded(location: Location) -> str:
    return f"({', '.join(f'{value:g}' for value in location)})"


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]} pixels"
