"""COCO-Spatial: left or right, above or below, of another object of a photo."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from locvlm.errors import ConfigError
from locvlm.evaluation import judges
from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read
from locvlm.evaluation.benchmarks.coco_spatial_file import Pair, Variant, read_pairs
from locvlm.evaluation.benchmarks.coco_spatial_rows import (
    TITLES,
    accuracy_rows,
    baseline_rows,
    consistency_rows,
)
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.side_answers import (
    CLOSED,
    CONTEXTS,
    DIRECT,
    FREE,
    IN_CONTEXT,
    fact_meta,
    side_item,
    worked,
)
from locvlm.evaluation.diagnostics import Change, Way, ways
from locvlm.evaluation.results import Item, Metric, Score
from locvlm.predictors.ask import Answer
from locvlm.spatial import SIDES, Axis, SideFact, opposite
from locvlm.types import Question

IclStyle: TypeAlias = Literal["consistent", "paper"]
VERSION = "1"  # raise it whenever the same answers could score differently
# How a pair is put so that either side is the right answer; the paper's form asks each pair once.
_ASKED: Mapping[tuple[Variant, Axis], tuple[Change, ...]] = {
    ("paper", "horizontal"): ("",),
    ("paper", "vertical"): ("",),
    ("released", "horizontal"): ("", "mirrored"),
    ("released", "vertical"): ("", "swapped"),
}


class CocoSpatial:
    """Asks on which side of one object another one is.

    The paper's judge takes an answer for right where the right word occurs; the strict one wants
    it to be the only side named. Beside both the two full answers are compared by likelihood.

    Args:
        questions: file of the paper's form or of the released one; `prepare
            benchmark=coco_spatial` builds either.
        images: folder of the images; None for scoring recorded answers.
        wording: for each form of the file and each axis, a question with {category}, the object
            asked for, and {other}, the one from which it is seen.
        answer: for each axis, the full answer, with {side} too.
        in_context: ask a second time after two worked questions on the same image.
        icl_style: worked answers are true (`consistent`), or name the opposite side, as the
            paper's printed examples do (`paper`). The right answer is the literal one in both.
        likelihood: compare the two full answers too; not every predictor can.
        diagnostics: ask with mirrored images, swapped names and grey images as well.
        seed: of the resampling, and of worked examples for the released form.

    Raises:
        ConfigError: a wording is missing, or there is no such style.
        DataError: the file is missing or of another kind, or its images are missing.

    Source: LocVLM, CVPR 2024; the authors' release (kahnchana/locvlm).
    """

    name = "coco_spatial"
    version = f"{VERSION}, judges {judges.VERSION}"

    def __init__(
        self,
        questions: str | Path,
        images: str | Path | None = None,
        *,
        wording: Mapping[Variant, Mapping[Axis, str]],
        answer: Mapping[Axis, str],
        in_context: bool = True,
        icl_style: IclStyle = "consistent",
        likelihood: bool = True,
        diagnostics: bool = True,
        seed: int = 0,
    ):
        if icl_style not in ("consistent", "paper"):
            raise ConfigError(
                f"there is no style {icl_style!r} of worked questions",
                where="benchmark.icl_style",
                fix="give consistent or paper",
            )
        self.files = [str(questions)]
        self.found = read_pairs(questions, seed)
        self.wording = wording.get(self.found.variant, {})
        self.answer = answer
        if missing := [axis for axis in SIDES if not (self.wording.get(axis) and answer.get(axis))]:
            raise ConfigError(
                f"nothing asks for {' or '.join(missing)} sides",
                where=f"benchmark.wording.{self.found.variant}, benchmark.answer",
                fix="give both for horizontal and vertical sides",
            )
        self.contexts = CONTEXTS if in_context else (DIRECT,)
        self.icl_style = icl_style
        self.modes = (FREE, CLOSED) if likelihood else (FREE,)
        self.diagnostics = diagnostics
        self.seed = seed
        entries = (entry for pair in self.found.pairs for entry in self._about(pair))
        self.asked = to_questions(self.name, entries, source=str(questions), images=images)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        in_context = IN_CONTEXT in self.contexts
        return {
            "form": self.found.variant,
            "wording": dict(self.wording),
            "answer": dict(self.answer),
            "in_context": "two worked questions on the same image before" if in_context else "no",
            "icl_style": self.icl_style,
            "judges": "paper: the right word occurs; strict: it is the only side named, as a whole "
            "word; likelihood: the likelier of the two full answers",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file; all that is asked about a pair together."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by question_id, or by key as items.jsonl of an evaluation has them."""
        given = read_answers(file, ("question_id", "key"), ("text", "answer"))
        start = f"{self.name}/"
        texts = {key.removeprefix(start): text for key, text in given.texts.items()}
        return replace(given, texts=texts)

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy over all and for each right side, by axis, context and judge; diagnostics."""
        metrics: list[Metric] = []
        for axis in SIDES:
            members = [answer for answer in answers if answer.question.meta["axis"] == axis]
            metrics += accuracy_rows(members, axis, self.seed)
            if self.diagnostics:
                metrics += [
                    *baseline_rows(members, axis, self.seed),
                    *consistency_rows(members, axis, self.seed),
                ]
        metas = [answer.question.meta for answer in answers]
        counts = {
            "images": len({meta["image"] for meta in metas}),
            "pairs": len({meta["pair"] for meta in metas}),
        }
        if self.found.without:
            counts["images without a pair"] = self.found.without
        items = [_item(answer) for answer in answers]
        return Score(metrics, items, counts | self.asked.left_out)

    def figures(self, score: Score) -> Mapping[str, float]:
        """In percent, as the paper has them, by axis, context, judge and right side."""
        return {key: round(100 * value, 2) for key, value in score.values.items()}

    def _about(self, pair: Pair) -> Iterator[Entry]:
        asked = _ASKED[self.found.variant, pair.fact.axis]
        for way in ways(pair.fact, pair.examples, pair.width, asked, diagnostics=self.diagnostics):
            for context in self.contexts:
                if context == DIRECT or way.examples:
                    for mode in self.modes:
                        yield self._entry(pair, way, context, mode)

    def _entry(self, pair: Pair, way: Way, context: str, mode: str) -> Entry:
        fact, axis = way.fact, way.fact.axis
        grey = "grey" if way.view == "grey" else ""
        names = (way.change, grey, *(one for one in (context, mode) if one not in (DIRECT, FREE)))
        meta = {
            **fact_meta(fact),
            "pair": pair.id,
            "image": pair.image,
            "context": context,
            "change": way.change,
            "part": way.part,
            "grey": bool(grey),
        }
        replies = [replace(fact, side=side).say(self.answer[axis]) for side in SIDES[axis]]
        return Entry(
            "/".join((pair.id, *filter(None, names))),
            pair.image,
            (fact.say(self.wording[axis]),),
            meta,
            before=worked(map(self._worked, way.examples)) if context == IN_CONTEXT else (),
            candidates=tuple(replies) if mode == CLOSED else (),
            view=way.view,
        )

    def _worked(self, fact: SideFact) -> tuple[str, str]:
        """A question and its answer, which the paper's style turns round."""
        told = replace(fact, side=opposite(fact.side)) if self.icl_style == "paper" else fact
        return fact.say(self.wording[fact.axis]), told.say(self.answer[fact.axis])


def _item(answer: Answer) -> Item:
    meta = answer.question.meta
    if meta["part"] != "benchmark":  # how sure and how right a model is blind is no calibration
        return replace(side_item(answer, ""), said="")
    title = TITLES[meta["axis"]] + (", in context" if meta["context"] == IN_CONTEXT else "")
    return side_item(answer, "" if answer.question.candidates else title)
