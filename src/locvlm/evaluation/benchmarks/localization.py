"""Localization: where is the object of this name?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from locvlm.evaluation.benchmarks.asking import Read, first_box, spoken, where_is
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges import is_refusal
from locvlm.evaluation.metrics.boxes import accuracy_at, best_iou, paired_iou
from locvlm.evaluation.results import Column, Histogram, Item, Mark, Metric, Row, Score
from locvlm.objectives import single_instances
from locvlm.predictors.ask import Answer
from locvlm.types import Box, Instance, Question, Sample

Naming = Literal["category", "description"]
THRESHOLD = 0.5
BINS = 20
TABLE = "Localization"
HEADLINES = ("Named object found", "Mean IoU, named object")


@dataclass(frozen=True, slots=True)
class Localization:
    """Asks where each object is that its name tells apart, once by category, once by description.

    The first box of the answer counts. Hit-any, the share of boxes that fit any annotated object,
    stands beside the accuracy: it tells a model that finds objects but mixes up their names.

    Args:
        prompts: templates with {category} and {repr}, as in training.
        seed: of the choice of prompts and of the resampling.
    """

    prompts: Sequence[str]
    seed: int = 0
    name: ClassVar[str] = "localization"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "asks": "each instance whose category occurs once in its image, by each name it has",
            "prompts": list(self.prompts),
            "threshold": THRESHOLD,
            "rule": "the first box counts; no readable box counts as IoU 0",
            "seed": self.seed,
        }

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """One for each name of each object."""
        return [
            Question(
                f"{self.name}/{sample.key}/{naming}/{n}",
                sample,
                (where_is(self.prompts, sample, name, self.seed),),
                meta={"naming": naming, "name": name, "box": list(instance.box)},
            )
            for sample in samples
            for n, instance in enumerate(single_instances(sample.instances))
            for naming, name in _names(instance)
        ]

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy, overlap, hit-any, refusals and parse failures, for each kind of name."""
        cases = [_judge(answer, read) for answer in answers]
        metrics = []
        for naming in ("category", "description"):
            chosen = [case for case in cases if case.naming == naming]
            metrics += _metrics(chosen, naming, self.seed) if chosen else []
        items = [case.item for case in cases]
        counts = {"questions": len(items), "images": len({item.image for item in items})}
        return Score(metrics, items, counts, [overlap_histogram(items)] if items else [])


class _Case(NamedTuple):
    """One judged answer."""

    item: Item
    naming: str
    predicted: Box | None
    true: Box
    any_iou: float


def _names(instance: Instance) -> list[tuple[Naming, str]]:
    names: list[tuple[Naming, str]] = [("category", instance.category)]
    if instance.description and instance.description != instance.category:
        names.append(("description", instance.description))
    return names


def _judge(answer: Answer, read: Read) -> _Case:
    question = answer.question
    true = Box(*question.meta["box"])
    box = first_box(answer, read)
    overlap = float(paired_iou([box], [true])[0])
    boxes = [instance.box for instance in question.sample.instances if not instance.crowd]
    best = best_iou(box, boxes)
    naming = question.meta["naming"]
    item = box_item(answer, box, overlap, f"Where is it, named by {naming}?", best)
    return _Case(item, naming, box, true, best)


def box_item(
    answer: Answer, box: Box | None, overlap: float, group: str, best: float = 0.0
) -> Item:
    """A question for the object `meta["name"]` at `meta["box"]`, and what came of it.

    Args:
        answer: of a model.
        box: that counts of it; None where there is none.
        overlap: of that box with the true one.
        group: title of the gallery.
        best: overlap with the object of the image that the box fits best, where all are known.
    """
    question, name = answer.question, answer.question.meta["name"]
    true = Box(*question.meta["box"])
    marks = [Mark("true", true, name)]
    if box is not None:
        marks.append(Mark("predicted", box, f"IoU {overlap:.2f}"))
    return Item(
        key=question.key,
        group=group,
        image=question.sample.key,
        question=spoken(question.messages[-1].parts),
        answer=answer.text,
        wanted=f"{name} at {spoken([true])}",
        outcome=_outcome(answer.text, box, overlap, best),
        score=overlap,
        marks=tuple(marks),
    )


def _outcome(text: str, box: Box | None, overlap: float, best: float) -> str:
    if box is None:
        return "refused" if is_refusal(text) else "no readable box"
    if overlap >= THRESHOLD:
        return "found"
    return "other object" if best >= THRESHOLD else "missed"


def overlap_histogram(items: Sequence[Item], table: str = TABLE) -> Histogram:
    """How often overlaps occur, in `BINS` bins, below a table."""
    counts, _ = np.histogram([item.score for item in items], bins=BINS, range=(0, 1))
    title = "Overlap (IoU) of predicted and true boxes; from 0.5 on an object counts as found"
    return Histogram(table, title, tuple(int(count) for count in counts), THRESHOLD)


def _metrics(cases: Sequence[_Case], naming: str, seed: int) -> list[Metric]:
    overlaps = paired_iou([case.predicted for case in cases], [case.true for case in cases])
    best = [case.any_iou for case in cases]
    outcomes = np.array([case.item.outcome for case in cases])
    images = [case.item.image for case in cases]
    found, overlap = HEADLINES if naming == "category" else ("", "")
    row = Row(f"localization.{naming}", TABLE, f"named by {naming}", images, seed)
    return row.metrics(
        Column("acc_at_0_5", "Acc@0.5", accuracy_at(overlaps, THRESHOLD), headline=found),
        Column("mean_iou", "Mean IoU", ratio(overlaps), headline=overlap),
        Column("hit_any", "Hits any object", accuracy_at(best, THRESHOLD)),
        Column("refused", "Refused", ratio(outcomes == "refused"), "lower"),
        Column("parse_failures", "Parse failures", ratio(outcomes == "no readable box"), "lower"),
    )
