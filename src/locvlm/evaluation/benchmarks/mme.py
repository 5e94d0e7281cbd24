"""MME: two yes/no questions about each image, one to be answered by yes and one by no."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import Given, to_given
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges import mme_says_yes
from locvlm.evaluation.results import Column, Item, Row, Score, Submission
from locvlm.io import cannot_read
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Question

_SPACES = str.maketrans("\t\r\n", "   ")  # what would end a field or a line of MME's files


class Mme:
    """One task of MME, such as existence, position or OCR: accuracy, accuracy+ and their sum.

    Accuracy+ is the share of images with both questions right. An image of which one question has
    no answer is left out, as MME's program refuses it.

    Args:
        questions: file of a task, two lines for each image: image, question, truth, separated by
            tabs. A file with answers in a fourth column serves as well.
        images: folder of the images; None for scoring recorded answers.
        prompt: with {question}, which asks for yes or no itself.
        seed: of the resampling.

    Raises:
        ConfigError: there is no file of questions.
        DataError: the file is missing or is none of MME's, or its images are missing.

    Source: Fu et al., MME, 2023; the rules are those of its calculation.py.
    """

    name = "mme"
    version = "1"

    def __init__(
        self,
        questions: str | Path | None,
        images: str | Path | None = None,
        prompt: str = "{question}",
        seed: int = 0,
    ):
        if questions is None:
            raise ConfigError(
                "MME needs the questions of a task",
                where="benchmark.questions",
                fix="give a file such as eval_tool/Your_Results/existence.txt",
            )
        self.files = [str(questions)]
        self.task = Path(questions).stem
        self.prompt = prompt
        self.seed = seed
        (file,) = self.files
        self.asked = to_questions(self.name, _entries(file, prompt), source=file, images=images)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "task": self.task,
            "prompt": self.prompt,
            "judge": "calculation.py: yes, else no, if it is in the first four letters; an answer "
            "with neither is wrong",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """The fourth column of MME's file."""
        return to_given(file, ((line.id, _answer(line)) for line in _lines(file)))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """The three figures, and how many answers say neither yes nor no."""
        judged = _whole(answers)
        says = [mme_says_yes(answer.text) for answer in judged]
        gold = [_is_yes(answer) for answer in judged]
        right = [said == true for said, true in zip(says, gold, strict=True)]
        n_right = Counter(_pair(a) for a, is_right in zip(judged, right, strict=True) if is_right)
        both = [n_right[_pair(answer)] == 2 for answer in judged]
        images = [answer.question.sample.key for answer in judged]
        row = Row(self.name, "MME", self.task, images, self.seed)
        metrics = row.metrics(
            Column("accuracy", "Accuracy", ratio(right), headline="MME accuracy", chance=0.5),
            # Both questions of an image carry its accuracy+: the score is the mean of the two.
            Column(
                "accuracy_plus", "Accuracy+", ratio(both), headline="MME accuracy+", chance=0.25
            ),
            Column("score", "Score, % of 200", ratio(np.add(right, both, dtype=float) / 2)),
            Column("parse_failures", "Neither", ratio([said is None for said in says]), "lower"),
        )
        counts = {"images": len(set(images)), **self.asked.left_out}
        if alone := len(answers) - len(judged):
            counts["left out: the other question of the image has no answer"] = alone
        items = [_item(answer, said) for answer, said in zip(judged, says, strict=True)]
        return Score(metrics if judged else [], items, counts)

    def figures(self, score: Score) -> Mapping[str, float]:
        """As calculation.py computes them: percent, and their sum, of 200 at most."""
        accuracy, plus = (100 * score.values[key] for key in ("accuracy", "accuracy_plus"))
        return {"accuracy": accuracy, "accuracy_plus": plus, "score": accuracy + plus}

    def submission(self, answers: Sequence[Answer]) -> Submission:
        """The file of the task that calculation.py reads."""
        lines = [
            "\t".join((meta["image"], meta["question"], meta["truth"], text.translate(_SPACES)))
            for meta, text in ((answer.question.meta, answer.text) for answer in _whole(answers))
        ]
        return Submission(f"{self.task}.txt", "".join(f"{line}\n" for line in lines))


class _Line(NamedTuple):
    where: str
    image: str
    question: str
    truth: str
    answer: str | None

    @property
    def id(self) -> str:
        return f"{self.image}: {self.question}"


def _lines(file: str | Path) -> Iterator[_Line]:
    try:
        with Path(file).open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                where = f"{file}, line {number}"
                image, *fields = line.rstrip("\n").split("\t", 3)
                if len(fields) < 2 or fields[1].strip().lower() not in ("yes", "no"):
                    raise DataError(
                        "this is no line of MME: it needs an image, a question and yes or no, "
                        "separated by tabs",
                        where=where,
                        fix="give a file such as eval_tool/Your_Results/existence.txt",
                    )
                answer = fields[2] if len(fields) == 3 else None
                yield _Line(where, image, fields[0], fields[1].strip(), answer)
    except UnicodeDecodeError as error:
        raise DataError("this file is not UTF-8", where=str(file)) from error
    except OSError as error:
        raise cannot_read(file, error) from error


def _answer(line: _Line) -> str:
    if line.answer is None:
        raise DataError(
            "there is no answer in this line",
            where=line.where,
            fix="give a file with answers in the fourth column",
        )
    return line.answer


def _entries(file: str, prompt: str) -> Iterator[Entry]:
    lines = list(_lines(file))
    if len(lines) % 2:
        raise DataError(f"{len(lines)} lines, which makes no pairs", where=file)
    for pair, (first, second) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        if first.image != second.image:
            raise DataError(
                f"two lines make a pair, but this one is about {second.image!r} and the one before "
                f"about {first.image!r}",
                where=second.where,
            )
        for line in (first, second):
            meta = {"pair": pair, "image": line.image, "question": line.question}
            parts = fill(prompt, question=line.question)
            yield Entry(line.id, line.image, parts, {**meta, "truth": line.truth})


def _pair(answer: Answer) -> int:
    return int(answer.question.meta["pair"])


def _whole(answers: Sequence[Answer]) -> list[Answer]:
    """The answers of images with both questions answered."""
    n_answered = Counter(map(_pair, answers))
    return [answer for answer in answers if n_answered[_pair(answer)] == 2]


def _is_yes(answer: Answer) -> bool:
    return bool(answer.question.meta["truth"].lower() == "yes")


def _item(answer: Answer, says: bool | None) -> Item:
    said = {True: "yes", False: "no", None: "neither"}[says]
    wanted = "yes" if _is_yes(answer) else "no"
    return Item(
        key=answer.question.key,
        group="Yes or no, two for each image",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=wanted,
        outcome="right" if said == wanted else said if says is None else f"false {said}",
        score=float(said == wanted),
        said=said,
    )
