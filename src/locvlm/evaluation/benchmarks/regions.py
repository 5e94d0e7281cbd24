"""Region description: what is at this location?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from locvlm.evaluation.benchmarks.asking import Read, seeded, spoken
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.metrics.captions import bare_description, names_only
from locvlm.evaluation.results import Column, Item, Mark, Row, Score
from locvlm.objectives import single_instances
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Box, Message, Question, Sample


@dataclass(frozen=True, slots=True)
class Regions:
    """Gives the box of each object and asks what is there.

    The category is right where the answer names it, as a whole word, and no other category of the
    data. The description is right where the answer says it word for word, "There is a" and the
    final stop aside.

    Args:
        prompts: templates with {location}, as in training.
        seed: of the choice of prompts and of the resampling.
    """

    prompts: Sequence[str]
    seed: int = 0
    name: ClassVar[str] = "regions"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "asks": "each instance whose category occurs once in its image, by its box",
            "prompts": list(self.prompts),
            "rule": "category: the only category named; description: equal in lower case, "
            "without 'There is a' and the final stop",
            "seed": self.seed,
        }

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """One for each object."""
        categories = sorted({i.category for sample in samples for i in sample.instances})
        questions = []
        for sample in samples:
            for n, instance in enumerate(single_instances(sample.instances)):
                prompt = seeded(self.seed, sample.key, str(n)).choice(self.prompts)
                message = Message("user", fill(prompt, location=instance.box))
                meta = {
                    "category": instance.category,
                    "description": instance.description,
                    "box": list(instance.box),
                    "categories": categories,
                }
                key = f"{self.name}/{sample.key}/{n}"
                questions.append(Question(key, sample, (message,), meta=meta))
        return questions

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Exact matches of the category and, where there is one, of the description."""
        items = [_judge(answer) for answer in answers]
        named = [item.outcome != "wrong" for item in items]
        described = [answer.question.meta["description"] is not None for answer in answers]
        images = [item.image for item in items]
        row = Row("regions", "Region description", "what is here?", images, self.seed)
        columns = [Column("category", "Category", ratio(named), headline="Right category at a box")]
        if any(described):
            right = [item.outcome == "right" for item in items]
            columns.append(Column("description", "Full description", ratio(right, described)))
        metrics = row.metrics(*columns) if items else []
        return Score(metrics, items, {"questions": len(items), "images": len(set(images))})


def _judge(answer: Answer) -> Item:
    meta = answer.question.meta
    wanted = meta["description"] or meta["category"]
    exact = bare_description(answer.text) == bare_description(wanted)
    named = names_only(answer.text, meta["category"], meta["categories"])
    outcome = "right" if exact else "category only" if named else "wrong"
    if named and meta["description"] is None:
        outcome = "right"
    return Item(
        key=answer.question.key,
        group="What is here?",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=wanted,
        outcome=outcome,
        score={"right": 1.0, "category only": 0.5, "wrong": 0.0}[outcome],
        marks=(Mark("asked", Box(*meta["box"]), wanted),),
    )
