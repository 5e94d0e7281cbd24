"""COCO-Spatial's tables: accuracies as in the paper, baselines, consistency."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from locvlm.evaluation.benchmarks.side_answers import (
    CLOSED,
    CONTEXTS,
    DIRECT,
    IN_CONTEXT,
    accuracies,
    named_side,
)
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.diagnostics import Change, consistency
from locvlm.evaluation.judges import paper_side
from locvlm.evaluation.results import Column, Metric, Row
from locvlm.predictors.ask import Answer
from locvlm.spatial import SIDES, Axis

TITLES: Mapping[Axis, str] = {
    "horizontal": "COCO-Spatial, left or right",
    "vertical": "COCO-Spatial, above or below",
}
PAPER, STRICT = "paper", "strict"


class _Judge(NamedTuple):
    """A reading of answers.

    Args:
        name: in the keys of metrics.
        title: of rows.
        closed: whether it reads the likelier candidate, or free answers.
        is_right: whether an answer is.
    """

    name: str
    title: str
    closed: bool
    is_right: Callable[[Answer], bool]


def _by_paper(answer: Answer) -> bool:
    return paper_side(answer.text, answer.question.meta["side"])


def _strictly(answer: Answer) -> bool:
    return named_side(answer) == answer.question.meta["side"]


_JUDGES = (
    _Judge(PAPER, "paper's judge", False, _by_paper),
    _Judge(STRICT, "strict judge", False, _strictly),
    _Judge(CLOSED, "by likelihood", True, _strictly),
)


def accuracy_rows(answers: Sequence[Answer], axis: Axis, seed: int) -> Iterator[Metric]:
    """All, and each right side, for each context and judge that has answers.

    Args:
        answers: to questions along one axis; those of the diagnostics are left out.
        axis: of the sides.
        seed: of the resampling.
    """
    asked = [answer for answer in answers if answer.question.meta["part"] == "benchmark"]
    for context in CONTEXTS:
        words = "in context" if context == IN_CONTEXT else context
        headline = f"{TITLES[axis]}, {words}"
        members = [answer for answer in asked if answer.question.meta["context"] == context]
        for judge in _JUDGES:
            if read := _read_by(judge, members):
                row = _row(axis, f"{context}.{judge.name}", f"{words}, {judge.title}", read, seed)
                columns = _columns(judge, read, axis, headline if judge.name == PAPER else "")
                yield from row.metrics(*columns)


def baseline_rows(answers: Sequence[Answer], axis: Axis, seed: int) -> Iterator[Metric]:
    """The same accuracies without the image, and of answers that are always the same.

    A model that does not surpass them shows no spatial understanding.
    """
    blind = [answer for answer in answers if answer.question.meta["grey"]]
    for judge in _JUDGES[1:]:
        if read := _read_by(judge, blind):
            row = _row(axis, f"grey.{judge.name}", f"grey image, {judge.title}", read, seed)
            yield from row.metrics(*_columns(judge, read, axis, ""))
    asked = [a for a in answers if a.question.meta["part"] == "benchmark" and _is_direct(a)]
    once = _read_by(_JUDGES[0], asked) or _read_by(_JUDGES[2], asked)
    gold = [answer.question.meta["side"] for answer in once]
    for side in SIDES[axis] if once else ():
        row = _row(axis, f"always_{side}", f'always "{side}"', once, seed)
        yield from row.metrics(*accuracies([one == side for one in gold], gold, axis))


def consistency_rows(answers: Sequence[Answer], axis: Axis, seed: int) -> Iterator[Metric]:
    """How often answers follow a mirrored image and swapped names, whether right or wrong."""
    seen = [a for a in answers if not a.question.meta["grey"] and _is_direct(a)]
    turns = axis == "horizontal"
    columns: tuple[tuple[Change, str, bool], ...] = (
        ("mirrored", f"Mirrored image: {'other' if turns else 'same'} side", turns),
        ("swapped", "Swapped names: other side", True),
    )
    for judge in _JUDGES[1:]:
        named: dict[str, dict[Change, str | None]] = {}
        image_of = {}
        for answer in _read_by(judge, seen):
            meta = answer.question.meta
            named.setdefault(meta["pair"], {})[meta["change"]] = named_side(answer)
            image_of[meta["pair"]] = meta["image"]
        for change, title, other in columns:
            pairs, share = consistency(named, change, turns=other)
            row = Row(
                f"coco_spatial.{axis}.consistency.{judge.name}",
                f"{TITLES[axis]}: consistency",
                judge.title,
                [image_of[pair] for pair in pairs],
                seed,
            )
            if pairs:
                yield from row.metrics(Column(change, title, share))


def _columns(judge: _Judge, read: Sequence[Answer], axis: Axis, headline: str) -> list[Column]:
    gold = [answer.question.meta["side"] for answer in read]
    columns = accuracies([judge.is_right(answer) for answer in read], gold, axis, headline)
    if judge.name == STRICT:
        unnamed = ratio([named_side(answer) is None for answer in read])
        columns.append(Column("parse_failures", "No side named", unnamed, "lower"))
    return columns


def _row(axis: Axis, key: str, title: str, answers: Sequence[Answer], seed: int) -> Row:
    images = [answer.question.meta["image"] for answer in answers]
    return Row(f"coco_spatial.{axis}.{key}", TITLES[axis], title, images, seed)


def _read_by(judge: _Judge, answers: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in answers if bool(answer.question.candidates) == judge.closed]


def _is_direct(answer: Answer) -> bool:
    context: Any = answer.question.meta["context"]
    return bool(context == DIRECT)
