"""Spatial sides: left or right, above or below, of the image or of another object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from locvlm.evaluation.benchmarks.asking import Read, seeded
from locvlm.evaluation.benchmarks.side_answers import (
    CHANCE,
    CLOSED,
    CONTEXTS,
    FREE,
    accuracies,
    fact_meta,
    named_side,
    side_item,
    worked,
)
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges import paper_side
from locvlm.evaluation.results import Column, Metric, Row, Score
from locvlm.predictors.ask import Answer
from locvlm.spatial import SIDES, Axis, Kind, SideQuestion, SideWording, side_questions
from locvlm.types import Message, Question, Sample

_TABLES: Mapping[tuple[Kind, Axis], str] = {
    ("image", "horizontal"): "Left or right side of the image",
    ("image", "vertical"): "Upper or lower half of the image",
    ("object", "horizontal"): "Left or right of another object",
    ("object", "vertical"): "Above or below another object",
}


class _Group(NamedTuple):
    """What questions have in common that share two rows of a table."""

    kind: Kind
    axis: Axis
    wording: str
    context: str


@dataclass(frozen=True, slots=True)
class Sides:
    """Asks for sides in several wordings, with and without worked examples, in two ways.

    Free answers are judged strictly (one side word, the right one) and as the paper does (the
    right word occurs); beside that the two possible answers are compared by their likelihood,
    which needs no words from the model at all.

    Args:
        wordings: by name, such as those that training uses and those it never contains.
        seed: of the choice of objects and templates and of the resampling.
    """

    wordings: Mapping[str, SideWording]
    seed: int = 0
    name: ClassVar[str] = "sides"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "asks": "per image at most one question for each axis about the image and one about "
            "a pair of objects; objects between 0.4 and 0.6 of the side lie on neither",
            "wordings": {
                name: {
                    "image": {axis: list(wording.image[axis]) for axis in SIDES},
                    "object": {axis: list(wording.object[axis]) for axis in SIDES},
                    "answer": wording.answer,
                }
                for name, wording in self.wordings.items()
            },
            "in_context": "two worked questions on the same image, one of each side, whose "
            "answers are literally true, before the question",
            "judges": "strict: exactly one side word, as a whole word; paper: the right word "
            "occurs; likelihood: the likelier of the two full answers",
            "seed": self.seed,
        }

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """Each question twice: to be answered freely, and with its two candidates."""
        return [question for sample in samples for question in self._about(sample)]

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy over all and for each right side, by kind, axis, wording, context and judge."""
        groups: dict[_Group, list[Answer]] = {
            _Group(kind, axis, wording, context): []
            for kind, axis in _TABLES
            for wording in self.wordings
            for context in CONTEXTS
        }
        for answer in answers:
            meta = answer.question.meta
            group = _Group(meta["kind"], meta["axis"], meta["wording"], meta["context"])
            groups[group].append(answer)
        metrics = [
            metric
            for group, members in groups.items()
            for metric in (*_free(group, members, self.seed), *_closed(group, members, self.seed))
        ]
        images = {answer.question.sample.key for answer in answers}
        items = [side_item(answer, _gallery(answer)) for answer in answers]
        return Score(metrics, items, {"questions": len(answers), "images": len(images)})

    def _about(self, sample: Sample) -> Iterator[Question]:
        if sample.size is None:
            return
        for name, wording in self.wordings.items():
            for context in CONTEXTS:
                # The same seed for each: as far as possible they ask for the same objects.
                rng = seeded(self.seed, sample.key)
                in_context = context == "in_context"
                asked = side_questions(
                    sample.instances, sample.size, wording, rng, in_context=in_context
                )
                for side in asked:
                    fact = side.fact
                    where = f"{self.name}/{sample.key}/{fact.kind}/{fact.axis}/{name}/{context}"
                    meta = _meta(side, name, context)
                    messages = _messages(side)
                    yield Question(f"{where}/{FREE}", sample, messages, meta=meta)
                    yield Question(f"{where}/{CLOSED}", sample, messages, side.candidates, meta)


def _meta(side: SideQuestion, wording: str, context: str) -> dict[str, Any]:
    fact = side.fact
    return {"kind": fact.kind, "wording": wording, "context": context, **fact_meta(fact)}


def _messages(side: SideQuestion) -> tuple[Message, ...]:
    return (*worked(side.examples), Message("user", (side.text,)))


def _gallery(answer: Answer) -> str:
    if answer.question.candidates:
        return ""
    what = "another object" if answer.question.meta["other"] else "the image"
    return f"Which side of {what}?"


def _free(group: _Group, answers: Sequence[Answer], seed: int) -> list[Metric]:
    """The row of free answers, by both judges."""
    free = [answer for answer in answers if not answer.question.candidates]
    if not free:
        return []
    gold = [answer.question.meta["side"] for answer in free]
    lenient = [paper_side(answer.text, side) for answer, side in zip(free, gold, strict=True)]
    unnamed = [named_side(answer) is None for answer in free]
    headline = _TABLES[group.kind, group.axis] if group[2:] == ("trained", "direct") else ""
    return _row(group, "strict", "free answer", free, seed).metrics(
        *_accuracies(group, free, headline),
        Column("paper", "All, paper's judge", ratio(lenient), chance=CHANCE),
        Column("parse_failures", "No side named", ratio(unnamed), "lower"),
    )


def _closed(group: _Group, answers: Sequence[Answer], seed: int) -> list[Metric]:
    """The row of likelihoods."""
    closed = [answer for answer in answers if answer.question.candidates]
    if not closed:
        return []
    row = _row(group, CLOSED, "by likelihood", closed, seed)
    return row.metrics(*_accuracies(group, closed, ""))


def _accuracies(group: _Group, answers: Sequence[Answer], headline: str) -> list[Column]:
    gold = [answer.question.meta["side"] for answer in answers]
    right = [named_side(answer) == side for answer, side in zip(answers, gold, strict=True)]
    return accuracies(right, gold, group.axis, headline)


def _row(group: _Group, judge: str, label: str, answers: Sequence[Answer], seed: int) -> Row:
    words = group.wording.replace("_", "-")
    context = ", in context" if group.context == "in_context" else ""
    return Row(
        f"sides.{group.kind}.{group.axis}.{group.wording}.{group.context}.{judge}",
        _TABLES[group.kind, group.axis],
        f"{words}{context}, {label}",
        [answer.question.sample.key for answer in answers],
        seed,
    )
