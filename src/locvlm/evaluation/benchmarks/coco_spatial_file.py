"""Reads COCO-Spatial's questions from either form of its file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.asking import seeded
from locvlm.io import read_json
from locvlm.spatial import SIDES, Axis, SideFact, side_of_object, swapped, worked_examples
from locvlm.types import Box, Instance

Variant: TypeAlias = Literal["paper", "released"]
PAPER_FORMAT, PAPER_VERSION = "coco_spatial paper", 1
# What a record of a file of another kind, or a damaged one, makes the code below raise.
_DAMAGE = (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class Pair(NamedTuple):
    """Two objects of an image.

    Args:
        id: unique in its file.
        image: name of its file.
        width: of the image in pixels.
        fact: what is asked for.
        examples: what is worked before it where it is asked in context; empty: it cannot be.
    """

    id: str
    image: str
    width: float
    fact: SideFact
    examples: tuple[SideFact, ...]


class Pairs(NamedTuple):
    """All pairs of a file, the form that it has, and how many of its images have none."""

    variant: Variant
    pairs: Sequence[Pair]
    without: int = 0


def read_pairs(file: str | Path, seed: int = 0) -> Pairs:
    """The pairs of a file, in its order.

    Args:
        file: in the paper's form, as `prepare benchmark=coco_spatial` writes it, or the released.
        seed: of the choice of worked examples, which the released form does not name.

    Raises:
        DataError: the file is missing, malformed, or of another kind; names the record.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        content = {}
    if isinstance(content.get("data"), dict) and isinstance(content.get("categories"), list):
        return _released(content, str(file), seed)
    if content.get("format") == PAPER_FORMAT and isinstance(content.get("questions"), list):
        if content.get("version") != PAPER_VERSION:
            raise DataError(
                f"version {content.get('version')!r} of COCO-Spatial's file is not known",
                where=str(file),
                fix="build the file again",
            )
        records = enumerate(content["questions"], start=1)
        return Pairs("paper", [_of_three(one, f"{file}, question {n}") for n, one in records])
    raise DataError(
        "this is no file of COCO-Spatial: it holds neither categories and data nor the questions "
        "of the paper's form",
        where=str(file),
        fix="build one from COCO's instances: python -m locvlm.prepare benchmark=coco_spatial",
    )


def _of_three(record: Any, where: str) -> Pair:
    """Asks for the first object as seen from the third; the first two are worked before."""
    try:
        axis, width = record["axis"], float(record["width"])
        first, second, third = (_instance(one["category"], one) for one in record["objects"])
        side, *others = (SIDES[axis].index(one["side"]) for one in record["objects"])
        if others != [1 - side] * 2:
            raise ValueError("the first object is not alone on its side")
        example = SideFact(second, axis, SIDES[axis][1 - side], first)
        fact = SideFact(first, axis, SIDES[axis][side], third)
        return Pair(
            str(record["id"]), str(record["file_name"]), width, fact, (example, swapped(example))
        )
    except _DAMAGE as error:
        raise _damaged(error, where) from error


def _released(content: Mapping[str, Any], file: str, seed: int) -> Pairs:
    where = f"{file}, categories"
    axes = list(SIDES)  # the release has a file for each, of one form: its pairs tell which it is
    images = []
    found: list[Pair] = []
    try:
        names = {one["id"]: str(one["name"]) for one in content["categories"]}
        for key, record in content["data"].items():
            where = f"{file}, data, {key!r}"
            if record.get("good_pairs"):
                pairs = _good_pairs(record, names)
                axes = [axis for axis in axes if _in_order(pairs.values(), axis)]
                if not axes:
                    raise ValueError("the first of a pair is neither left of the second nor above")
                images.append((key, record, pairs))
        for key, record, pairs in images:
            where = f"{file}, data, {key!r}"
            found += _asked(key, record, pairs, axes[0], seed)
    except _DAMAGE as error:
        raise _damaged(error, where) from error
    return Pairs("released", found, len(content["data"]) - len(images))


def _good_pairs(
    record: Mapping[str, Any], names: Mapping[Any, str]
) -> dict[str, tuple[Instance, Instance]]:
    """The pairs of an image by their indices, such as `0-2`."""
    objects = [_instance(names[one["category_id"]], one) for one in record["annotations"]]
    return {f"{n}-{m}": (objects[n], objects[m]) for n, m in record["good_pairs"]}


def _in_order(pairs: Iterable[tuple[Instance, Instance]], axis: Axis) -> bool:
    """Whether the first object of each pair ends before the second one begins."""
    first = SIDES[axis][0]
    return all(side_of_object(one.box, other.box, axis) == first for one, other in pairs)


def _asked(
    key: str,
    record: Mapping[str, Any],
    pairs: Mapping[str, tuple[Instance, Instance]],
    axis: Axis,
    seed: int,
) -> Iterator[Pair]:
    """Asks for the second object of each pair, which lies right of the first one or below it."""
    image, width = str(record["file_name"]), float(record["width"])
    facts = [SideFact(first, axis, SIDES[axis][0], second) for first, second in pairs.values()]
    facts += [swapped(fact) for fact in facts]
    for name, (first, second) in pairs.items():
        fact = SideFact(second, axis, SIDES[axis][1], first)
        asked = {first.category, second.category}
        # Others give no examples, and an image may have hundreds of facts to try in twos.
        near = [f for f in facts if len(asked & {one.category for one in f.instances}) == 1]
        where = f"{key}/{name}"
        examples = worked_examples(fact, near, seeded(seed, where)) or ()
        yield Pair(where, image, width, fact, examples)


def _instance(category: Any, record: Mapping[str, Any]) -> Instance:
    x, y, width, height = map(float, record["bbox"])
    return Instance(str(category), Box(x, y, x + width, y + height))


def _damaged(error: Exception, where: str) -> DataError:
    what = f"no {error}" if isinstance(error, KeyError) else str(error)
    return DataError(
        f"this record of COCO-Spatial cannot be used: {what}",
        where=where,
        fix="build the file again: python -m locvlm.prepare benchmark=coco_spatial",
    )
