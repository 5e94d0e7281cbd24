"""What benchmarks share whose answers are compared with what people wrote."""

from locvlm.evaluation.benchmarks.asking import spoken
from locvlm.evaluation.metrics.wording import Wording
from locvlm.evaluation.results import Column, Item, Mark
from locvlm.predictors.ask import Answer

_TITLES = {"meteor": "METEOR", "cider": "CIDEr-D", "cider_plain": "CIDEr-D, plain words"}


def worded_columns(found: Wording, suffix: str = "", words: str = "") -> list[Column]:
    """The columns of a row.

    Args:
        found: the metrics.
        suffix: of their keys.
        words: behind their titles; such columns are no headlines.
    """
    return [
        Column(
            f"{key}{suffix}", f"{_TITLES[key]}{words}", of, headline="" if words else _TITLES[key]
        )
        for key, of in found.metrics.items()
    ]


def worded_item(answer: Answer, near: float, group: str, marks: tuple[Mark, ...] = ()) -> Item:
    """A question with what was said and what people wrote, `meta["references"]`.

    Args:
        answer: of a model.
        near: how near it is, 0 to 1.
        group: title of the gallery.
        marks: what to draw.
    """
    return Item(
        key=answer.question.key,
        group=group,
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=" / ".join(answer.question.meta["references"]),
        outcome="some words match" if near > 0 else "no word matches",
        score=float(near),
        marks=marks,
    )
