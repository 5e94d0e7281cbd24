"""Hallucination: does the model see what is not there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from locvlm.evaluation.benchmarks.asking import (
    Read,
    first_box,
    half_present,
    seeded,
    spoken,
    where_is,
)
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges import is_refusal, pope_says_yes, says_yes
from locvlm.evaluation.metrics import binary
from locvlm.evaluation.results import Column, Item, Mark, Metric, Row, Score
from locvlm.objectives import single_instances
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.text import article
from locvlm.types import Instance, Message, Question, Sample

IS_THERE, WHERE_IS = "is there", "where is"


@dataclass(frozen=True, slots=True)
class Hallucination:
    """Asks about present and absent objects, as many of each in every image.

    Both forms of the question are asked of the same names: "Is there a cat?", whose answer is yes
    or no, and "Where is the cat?", which a model should refuse when there is none.

    Args:
        is_there: templates with {article} and {category}.
        where_is: templates with {category} and {repr}: the prompts of `Localization`.
        per_image: names of each kind at most; an image with fewer of one kind gives fewer of both.
        seed: of the choice of names and prompts and of the resampling.
    """

    is_there: Sequence[str]
    where_is: Sequence[str]
    per_image: int = 2
    seed: int = 0
    name: ClassVar[str] = "hallucination"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "asks": f"up to {self.per_image} present and as many absent names per image",
            "is_there": list(self.is_there),
            "where_is": list(self.where_is),
            "rule": "yes/no is read as POPE's official program does; a refusal says that there "
            "is no such object and holds no box",
            "seed": self.seed,
        }

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """Both forms for every chosen name."""
        return [
            Question(
                f"{self.name}/{sample.key}/{form}/{name}",
                sample,
                (self._message(form, sample, name),),
                meta={"form": form, "name": name, "present": present},
            )
            for sample in samples
            for name, present in self._names(sample)
            for form in (IS_THERE, WHERE_IS)
        ]

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Yes/no accuracy and false yes, then refusals where they are due and where not."""
        cases = [_judge(answer, read) for answer in answers]
        closed = [case for case in cases if case.form == IS_THERE]
        located = [case for case in cases if case.form == WHERE_IS]
        metrics = [*_yes_no(closed, self.seed), *_refusals(located, self.seed)] if cases else []
        images = {answer.question.sample.key for answer in answers}
        counts = {"questions": len(answers), "images": len(images)}
        return Score(metrics, [case.item for case in cases], counts)

    def _names(self, sample: Sample) -> list[tuple[str, bool]]:
        present = sorted(
            {name for i in single_instances(sample.instances) for name in _names_of(i)}
        )
        absent = sorted(
            set(sample.absent).difference(*(_names_of(instance) for instance in sample.instances))
        )
        return half_present(present, absent, self.per_image, seeded(self.seed, sample.key))

    def _message(self, form: str, sample: Sample, name: str) -> Message:
        if form == WHERE_IS:
            return where_is(self.where_is, sample, name, self.seed)
        prompt = seeded(self.seed, sample.key, name).choice(self.is_there)
        return Message("user", fill(prompt, article=article(name), category=name))


class _Case(NamedTuple):
    """One judged answer; `claims` is whether the model says that the object is there."""

    item: Item
    form: str
    present: bool
    claims: bool
    unclear: bool


def _names_of(instance: Instance) -> set[str]:
    return {instance.category} | ({instance.description} if instance.description else set())


def _judge(answer: Answer, read: Read) -> _Case:
    meta = answer.question.meta
    judge = _judge_yes_no if meta["form"] == IS_THERE else _judge_where
    claims, unclear, outcome = judge(answer, read)
    box = first_box(answer, read) if meta["form"] == WHERE_IS else None
    true = [i for i in answer.question.sample.instances if meta["name"] in _names_of(i)]
    marks = [Mark("true", instance.box, meta["name"]) for instance in true]
    item = Item(
        key=answer.question.key,
        group="Is it there?" if meta["form"] == IS_THERE else "Where is it, if it is there?",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=_said(meta["form"], meta["present"]),
        outcome=outcome,
        score=float(claims == meta["present"] and not unclear),
        marks=(*marks, *([Mark("predicted", box, meta["name"])] if box else [])),
        said="neither" if unclear else _said(meta["form"], claims),
    )
    return _Case(item, meta["form"], meta["present"], claims, unclear)


def _judge_yes_no(answer: Answer, read: Read) -> tuple[bool, bool, str]:
    claims = pope_says_yes(answer.text)
    if says_yes(answer.text) is None:
        return claims, True, "neither yes nor no"
    if claims == answer.question.meta["present"]:
        return claims, False, "right"
    return claims, False, "false yes" if claims else "false no"


def _judge_where(answer: Answer, read: Read) -> tuple[bool, bool, str]:
    box = first_box(answer, read)
    if box is None and not is_refusal(answer.text):
        return True, True, "neither box nor refusal"
    claims = box is not None
    if claims == answer.question.meta["present"]:
        return claims, False, "right"
    return claims, False, "box for nothing" if claims else "refused wrongly"


def _said(form: str, present: bool) -> str:
    if form == IS_THERE:
        return "yes" if present else "no"
    return "a box" if present else "there is none"


def _yes_no(cases: Sequence[_Case], seed: int) -> list[Metric]:
    says = [case.claims for case in cases]
    gold = [case.present for case in cases]
    images = [case.item.image for case in cases]
    row = Row("hallucination.presence", "Presence, yes or no", "is it there?", images, seed)
    return row.metrics(
        Column(
            "accuracy",
            "Accuracy",
            binary.accuracy(says, gold),
            headline="Is it there? Right yes or no",
            chance=0.5,
        ),
        Column("false_yes", "False yes", binary.false_yes_rate(says, gold), "lower"),
        Column("yes_ratio", "Says yes", binary.yes_ratio(says), ""),
        Column("f1", "F1", binary.f1(says, gold)),
        Column("parse_failures", "Neither", ratio([case.unclear for case in cases]), "lower"),
    )


def _refusals(cases: Sequence[_Case], seed: int) -> list[Metric]:
    refused = np.array([not case.claims for case in cases])
    present = np.array([case.present for case in cases])
    images = [case.item.image for case in cases]
    row = Row("hallucination.refusals", "Refusals", "where is it?", images, seed)
    return row.metrics(
        Column(
            "absent",
            "Refused, absent",
            ratio(refused, ~present),
            headline="Absent objects refused",
        ),
        Column("present", "Refused, present", ratio(refused, present), "lower"),
        Column("parse_failures", "Neither", ratio([case.unclear for case in cases]), "lower"),
    )
