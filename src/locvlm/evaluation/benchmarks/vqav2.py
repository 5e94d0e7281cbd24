"""VQA v2: questions about photos, each with the short answers of ten people."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.kinds import by_kind
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.metrics.vqa import vqa_accuracy
from locvlm.evaluation.results import Column, Item, Metric, Row, Score, Submission
from locvlm.io import read_json
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Question

# As the files call them: key and title of the figure.
ANSWER_TYPES = {
    "yes/no": ("yes_no", "Yes/no"),
    "number": ("number", "Number"),
    "other": ("other", "Other"),
}
_SUBTYPE = re.compile(r"[a-z]+(-[a-z]+)?(\d{4})")
Truth: TypeAlias = dict[str, Any]


class Vqav2:
    """VQA v2's accuracy, over all questions, by type of answer and by type of question.

    Questions without human answers, as in the test splits, are asked and not scored.

    Args:
        questions: VQA's questions file, with or without its header.
        annotations: its file of human answers; None for a test split.
        images: folder of the images; None for scoring recorded answers.
        image_name: of an image's file, with {id}, such as "COCO_val2014_{id:012d}.jpg"; None takes
            the data_subtype of the questions' header.
        prompt: with {question}.
        seed: of the resampling.

    Raises:
        ConfigError: the names of the images are not known.
        DataError: a file is missing or is none of VQA's, or its images are missing.

    Source: Goyal et al., Making the V in VQA Matter, CVPR 2017.
    """

    name = "vqav2"
    version = "1"

    def __init__(
        self,
        questions: str | Path,
        annotations: str | Path | None = None,
        images: str | Path | None = None,
        image_name: str | None = None,
        prompt: str = "{question}",
        seed: int = 0,
    ):
        self.files = [str(file) for file in (questions, annotations) if file is not None]
        self.prompt = prompt
        self.seed = seed
        source = str(questions)
        content = _content(source, "questions")
        subtype = str(content.get("data_subtype", ""))
        self.split = subtype or Path(source).stem
        image_of = _image_names(image_name, subtype, source, needed=images is not None)
        truths = {} if annotations is None else _truths(str(annotations))
        entries = _entries(content["questions"], truths, source, image_of, prompt)
        self.asked = to_questions(self.name, entries, source=source, images=images)
        if truths and not any("humans" in question.meta for question in self.asked.questions):
            raise DataError(
                f"none of its {len(truths):,} annotations is of a question in {source}",
                where=str(annotations),
                fix="give the questions and annotations of one split",
            )

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "prompt": self.prompt,
            "rule": "vqaEval.py: min(1, matches / 3), averaged over the sets that leave one person "
            "out; normalized only where the people differ",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by question_id: the official `answer`, or LLaVA's `text`."""
        return read_answers(file, ("question_id",), ("answer", "text"))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """The accuracies, and how many answers have nothing to compare with."""
        judged = [answer for answer in answers if "humans" in answer.question.meta]
        scores = [vqa_accuracy(answer.text, answer.question.meta["humans"]) for answer in judged]
        items = [_item(answer, score) for answer, score in zip(judged, scores, strict=True)]
        counts = {"images": len({item.image for item in items}), **self.asked.left_out}
        if len(judged) < len(answers):
            counts["not scored, without human answers"] = len(answers) - len(judged)
        return Score(self._metrics(judged, scores) if judged else [], items, counts)

    def figures(self, score: Score) -> Mapping[str, float]:
        """As vqaEval.py prints them: percent, two decimals."""
        return {key: round(100 * v, 2) for key, v in score.values.items() if "." not in key}

    def submission(self, answers: Sequence[Answer]) -> Submission:
        """The results file of the test server, of all questions."""
        rows = [
            {"question_id": int(answer.question.meta["id"]), "answer": answer.text}
            for answer in answers
        ]
        return Submission("vqav2_results.json", json.dumps(rows))

    def _metrics(self, answers: Sequence[Answer], scores: Sequence[float]) -> list[Metric]:
        images = [answer.question.sample.key for answer in answers]
        of_answer = [answer.question.meta["answer_type"] for answer in answers]
        row = Row(self.name, "VQAv2", self.split, images, self.seed)
        columns = [Column("overall", "Overall", ratio(scores), headline="VQAv2 accuracy")]
        columns += [
            Column(key, title, ratio(scores, [one == kind for one in of_answer]))
            for kind, (key, title) in ANSWER_TYPES.items()
            if kind in of_answer
        ]
        of_question = [answer.question.meta["question_type"] for answer in answers]
        key, table = f"{self.name}.question_type", "VQAv2, by question"
        return [
            *row.metrics(*columns),
            *by_kind(key, table, of_question, scores, images, seed=self.seed),
        ]


def _content(file: str, key: str) -> Mapping[str, Any]:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise DataError(
            f"this is no file of VQA's {key}: it has no list of that name",
            where=file,
            fix=f"give a file such as v2_..._mscoco_val2014_{key}.json",
        )
    return content


def _truths(file: str) -> dict[str, Truth]:
    """What the score needs to know of each annotated question, by its id."""
    truths: dict[str, Truth] = {}
    for number, record in enumerate(_content(file, "annotations")["annotations"], start=1):
        try:
            humans = [answer["answer"] for answer in record["answers"]]
            kinds = [str(record.get(name) or "") for name in ("question_type", "answer_type")]
            key = str(record["question_id"])
        except (KeyError, TypeError, AttributeError):
            humans = []
        if {type(text) for text in humans} != {str}:
            raise DataError(
                "this is no annotation of VQA: it needs question_id and answers, each with its "
                "text at 'answer'",
                where=f"{file}, annotation {number}",
            )
        truths[key] = {"humans": humans, "question_type": kinds[0], "answer_type": kinds[1]}
    return truths


def _entries(
    records: Sequence[Any],
    truths: Mapping[str, Truth],
    file: str,
    image_of: Callable[[int], str],
    prompt: str,
) -> Iterator[Entry]:
    for number, record in enumerate(records, start=1):
        try:
            key, image = str(int(record["question_id"])), image_of(int(record["image_id"]))
            parts = fill(prompt, question=str(record["question"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                "this is no question of VQA: it needs question_id and image_id, which are "
                "numbers, and question",
                where=f"{file}, question {number}",
            ) from error
        yield Entry(key, image, parts, truths.get(key, {}))


def _image_names(
    pattern: str | None, subtype: str, file: str, *, needed: bool
) -> Callable[[int], str]:
    """Makes names of an image's id; without a pattern, of COCO's part that `subtype` names."""
    if pattern is None:
        found = _SUBTYPE.fullmatch(subtype)
        if needed and not found:
            raise ConfigError(
                f"{file} does not say of which part of COCO its images are",
                where="benchmark.image_name",
                fix="give it, such as 'COCO_val2014_{id:012d}.jpg'",
            )
        # test-dev2015 asks about images of test2015
        part = subtype.replace(found[1], "") if found and found[1] else subtype
        return lambda number: f"COCO_{part}_{number:012d}.jpg"
    try:
        pattern.format(id=0)
    except (LookupError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{pattern!r} makes no name of an id",
            where="benchmark.image_name",
            fix="write {id}, or {id:012d} for twelve digits",
        ) from error
    return lambda number: pattern.format(id=number)


def _item(answer: Answer, score: float) -> Item:
    humans = answer.question.meta["humans"]
    return Item(
        key=answer.question.key,
        group="What is asked about photos",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=max(dict.fromkeys(humans), key=humans.count),
        outcome="right" if score == 1 else "right for some" if score else "wrong",
        score=score,
    )
