"""What benchmarks of sides share: worked examples, the reading of answers, their figures."""

from collections.abc import Iterable, Sequence

from numpy.typing import ArrayLike

from locvlm.evaluation.judges import strict_side
from locvlm.evaluation.metrics.sides import ALL, by_side
from locvlm.evaluation.results import Column, Item, Mark
from locvlm.predictors.ask import Answer
from locvlm.spatial import SIDES, Axis, Side, SideFact
from locvlm.types import Box, Message

FREE, CLOSED = "free", "likelihood"
DIRECT, IN_CONTEXT = CONTEXTS = ("direct", "in_context")
CHANCE = 0.5


def worked(examples: Iterable[tuple[str, str]]) -> tuple[Message, ...]:
    """Questions and their answers as the turns of a conversation."""
    return tuple(
        message
        for question, reply in examples
        for message in (Message("user", (question,)), Message("assistant", (reply,)))
    )


def fact_meta(fact: SideFact) -> dict[str, object]:
    """What `named_side` and `side_item` need to know of a question that asks for `fact`."""
    return {
        "axis": fact.axis,
        "side": fact.side,
        "name": fact.instance.category,
        "box": list(fact.instance.box),
        "other": fact.other and fact.other.category,
        "other_box": fact.other and list(fact.other.box),
    }


def named_side(answer: Answer) -> Side | None:
    """The one side that an answer names, or that its likelier candidate stands for."""
    sides = SIDES[answer.question.meta["axis"]]
    if answer.text in answer.question.candidates:
        return sides[answer.question.candidates.index(answer.text)]
    named = strict_side(answer.text, sides)
    return next((side for side in sides if side == named), None)


def accuracies(
    right: ArrayLike, gold: Sequence[str], axis: Axis, headline: str = ""
) -> list[Column]:
    """Columns All and one for each gold side.

    Args:
        right: (K,) whether each answer is right.
        gold: (K,) the right side of each question.
        axis: of the sides.
        headline: of the first column.
    """
    return [
        Column(
            side,
            side.capitalize(),
            accuracy,
            headline=headline if side == ALL else "",
            chance=CHANCE,
        )
        for side, accuracy in by_side(right, gold, SIDES[axis]).items()
    ]


def side_item(answer: Answer, group: str) -> Item:
    """An answer with what came of it, read strictly.

    Args:
        answer: to a question with the meta of `fact_meta`.
        group: title of its gallery; empty: it is in none.
    """
    meta = answer.question.meta
    named = named_side(answer)
    outcome = "right" if named == meta["side"] else "no side named" if named is None else "wrong"
    marks = [Mark("true", Box(*meta["box"]), meta["name"])]
    if meta["other"]:
        marks.append(Mark("asked", Box(*meta["other_box"]), meta["other"]))
    return Item(
        key=answer.question.key,
        group=group,
        image=answer.question.sample.key,
        question=" ".join(str(message.parts[0]) for message in answer.question.messages),
        answer=answer.text,
        wanted=meta["side"],
        outcome=outcome,
        score=float(named == meta["side"]),
        marks=tuple(marks),
        said=named or "no side",
    )
