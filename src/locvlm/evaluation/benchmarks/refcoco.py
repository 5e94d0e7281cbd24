"""Referring expression comprehension: where is what this expression refers to?"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from locvlm.coordinates import Parsed
from locvlm.dialects import Dialect
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import Given
from locvlm.evaluation.benchmarks.asking import Read, where_is
from locvlm.evaluation.benchmarks.expressions import (
    Expression,
    read_expressions,
    read_predictions,
    recorded_boxes,
)
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.localization import (
    THRESHOLD,
    box_item,
    overlap_histogram,
)
from locvlm.evaluation.benchmarks.referring import Expressions, Referred, referred
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.metrics.boxes import accuracy_at, paired_iou
from locvlm.evaluation.results import Column, Row, Score
from locvlm.located import Located
from locvlm.predictors.ask import Answer
from locvlm.predictors.places import locate
from locvlm.types import Box, Question, Sample

Which = Literal["first", "best", "largest", "last"]
TABLE = "Referring expressions"


class RefCoco:
    """Accuracy at IoU 0.5 and mean IoU over all expressions of a split.

    An answer without a readable box is wrong, and counted. Expressions that are also said of
    another object of their image count as well, as in published results; the accuracy over the
    unique ones stands beside.

    Args:
        prompts: with {category} and {repr}; one is drawn for each expression.
        expressions: file of expressions with their boxes, see `read_expressions`.
        source: instead of it, a reader of one split of RefCOCO, RefCOCO+ or RefCOCOg.
        images: folder of the images of `expressions`; None for scoring recorded answers.
        which: of several boxes, the one that counts: the first, last or largest one, or the best
            one, which only one who knows the truth can choose.
        dialect: that recorded texts write boxes in.
        seed: of the choice of prompts and of the resampling.

    Raises:
        ConfigError: there are no expressions, or `which` is something else.
        DataError: a file is missing or no file of expressions, or the images are missing.

    Source: Kazemzadeh et al., EMNLP 2014 (RefCOCO, RefCOCO+); Mao et al., CVPR 2016 (RefCOCOg).
    """

    name = "refcoco"
    version = "1"

    def __init__(
        self,
        prompts: Sequence[str],
        expressions: str | Path | None = None,
        *,
        source: Expressions | None = None,
        images: str | Path | None = None,
        which: Which = "first",
        dialect: Dialect | None = None,
        seed: int = 0,
    ):
        if which not in get_args(Which):
            raise ConfigError(
                f"there is no box called {which!r}",
                where="benchmark.which",
                fix=f"choose {', '.join(get_args(Which))}",
            )
        self.prompts = list(prompts)
        self.which = which
        self.dialect = dialect
        self.seed = seed
        left_out: dict[str, int] = {}
        if source is not None:
            self.files = list(source.sources)
            self.split = getattr(source, "split", None) or Path(self.files[0]).stem
            objects, left_out = referred(source)
            asked = [one for referred in objects for one in _expressions(referred)]
            images = source.images
        elif expressions is not None:
            self.files = [str(expressions)]
            self.split = Path(expressions).stem
            asked = read_expressions(expressions)
        else:
            raise ConfigError(
                "there are no expressions to ask for",
                where="benchmark.expressions",
                fix="add expressions=FILE; to evaluate, source@benchmark.source=refcoco or mdetr",
            )
        entries = [self._entry(one) for one in asked]
        self.asked = to_questions(self.name, entries, source=self.files[0], images=images)
        self.left_out = {**left_out, **self.asked.left_out}

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "asks": "each expression; one that is said twice of an object once",
            "prompts": self.prompts,
            "threshold": THRESHOLD,
            "rule": f"the {self.which} box counts; no readable box counts as IoU 0",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """One for each expression."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Boxes or texts by the id of their expression, see `read_predictions`."""
        return read_predictions(file)

    def read(self, answer: Answer) -> Located:
        """The boxes of a recorded answer.

        Raises:
            ConfigError: it is text, and no dialect says how that writes boxes.
            DataError: it is text, and its expression does not state the size of its image.
        """
        boxes = recorded_boxes(answer.text)
        if boxes is not None:
            return Located(tuple(boxes), Parsed((), ()))
        if self.dialect is None:
            raise ConfigError(
                "these answers are text, and texts write boxes in many ways",
                where="dialect",
                fix="add dialect=NAME, such as shikra or qwen2_5_vl",
            )
        size = answer.question.meta["size"]
        if size is None:
            raise DataError(
                "a text's numbers say nothing without the size of the image",
                where=f"{self.files[0]}, expression {answer.question.meta['id']!r}",
                fix="add width and height in pixels to each expression",
            )
        return locate(self.dialect, answer.text, (size[0], size[1]))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy, over all and over unique expressions, mean IoU and parse failures."""
        true = [Box(*answer.question.meta["box"]) for answer in answers]
        boxes = [
            chosen(read(answer).boxes, box, self.which)
            for answer, box in zip(answers, true, strict=True)
        ]
        overlaps = paired_iou(boxes, true)
        unique = [answer.question.meta["unique"] for answer in answers]
        images = [answer.question.sample.key for answer in answers]
        row = Row(self.name, TABLE, self.split, images, self.seed)
        metrics = row.metrics(
            Column("acc_at_0_5", "Acc@0.5", accuracy_at(overlaps, THRESHOLD), headline=TABLE),
            Column("mean_iou", "Mean IoU", ratio(overlaps)),
            Column("acc_unique", "Acc@0.5, unique", ratio(overlaps >= THRESHOLD, unique)),
            Column("parse_failures", "No box", ratio([box is None for box in boxes]), "lower"),
        )
        items = [
            box_item(answer, box, float(overlap), "Where is it?")
            for answer, box, overlap in zip(answers, boxes, overlaps, strict=True)
        ]
        counts = {"images": len(set(images)), **self.left_out}
        return Score(metrics, items, counts, [overlap_histogram(items, TABLE)])

    def figures(self, score: Score) -> Mapping[str, float]:
        """Fractions."""
        return score.values

    def _entry(self, one: Expression) -> Entry:
        message = where_is(self.prompts, Sample(one.image, self.files[0]), one.text, self.seed)
        meta = {"name": one.text, "box": list(one.box), "size": one.size, "unique": one.unique}
        meta["question"] = one.text  # recorded answers to another expression are told by it
        return Entry(one.id, one.image or f"image of {one.id}", message.parts, meta)


def chosen(boxes: Sequence[Box], true: Box, which: Which) -> Box | None:
    """The box of several that counts; None where there is none."""
    if not boxes:
        return None
    if which == "best":
        return boxes[int(paired_iou(boxes, [true] * len(boxes)).argmax())]
    if which == "largest":
        return max(boxes, key=lambda box: box.area)
    return boxes[0 if which == "first" else -1]


def _expressions(one: Referred) -> list[Expression]:
    said = zip(one.expressions, one.unique, strict=True)
    return [
        Expression(f"{one.id}/{n}", one.image, text, one.box, one.size, unique)
        for n, (text, unique) in enumerate(said)
    ]
