"""POPE: polling questions about objects that are in an image, or not."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.errors import DataError
from locvlm.evaluation.answers import Given, read_answers, records
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges import pope_says_yes, says_yes
from locvlm.evaluation.metrics import binary
from locvlm.evaluation.results import Column, Item, Row, Score
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Question


class Pope:
    """One split of POPE: random, popular or adversarial; or a set of such questions, as Hal-COCO.

    Accuracy, precision, recall, F1 and the share of "yes" among the answers; the positive class is
    yes. Answers are read as POPE's evaluate.py does, which takes one that says neither for a yes.

    Args:
        questions: POPE's file (question_id, image or video, text, label): JSON Lines or an array.
            The random split of COCO has 3,000 or, without repeated ones, 2,910 questions by
            release: the score says how many it stands on.
        images: folder of the images; None for scoring recorded answers.
        prompt: with {question}.
        name: of the benchmark.
        title: of its table.
        seed: of the resampling.

    Raises:
        DataError: the file is missing or is no POPE file, or its images are missing.

    Source: Li et al., Evaluating Object Hallucination in Large Vision-Language Models, EMNLP 2023.
    """

    version = "1"

    def __init__(
        self,
        questions: str | Path,
        images: str | Path | None = None,
        prompt: str = "{question}",
        name: str = "pope",
        title: str = "POPE",
        seed: int = 0,
    ):
        self.name = name
        self.title = title
        self.files = [str(questions)]
        self.split = Path(questions).stem
        self.prompt = prompt
        self.seed = seed
        (file,) = self.files
        self.asked = to_questions(name, _entries(file, prompt), source=file, images=images)

    @property
    def about(self) -> str:
        """What its questions show: image, or video, which cannot be asked about yet."""
        return "video" if any("video" in one.meta for one in self.asked.questions) else "image"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "prompt": self.prompt,
            "judge": "POPE's evaluate.py: up to the first stop, without commas, split on spaces: "
            "no if one of No, not, no; else yes",
            "positive": "yes",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by question_id: LLaVA's `text`, or `answer`.

        Without it they are in the order of the questions, as POPE's evaluate.py has it.
        """
        in_order = [question.meta["id"] for question in self.asked.questions]
        return read_answers(file, ("question_id",), ("text", "answer"), in_order)

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """POPE's five figures, and how many answers say neither yes nor no."""
        says = [pope_says_yes(answer.text) for answer in answers]
        gold = [answer.question.meta["label"] == "yes" for answer in answers]
        unclear = [says_yes(answer.text) is None for answer in answers]
        images = [answer.question.sample.key for answer in answers]
        row = Row(self.name, self.title, self.split, images, self.seed)
        metrics = row.metrics(
            Column(
                "accuracy",
                "Accuracy",
                binary.accuracy(says, gold),
                headline=f"{self.title} accuracy",
            ),
            Column("precision", "Precision", binary.precision(says, gold)),
            Column("recall", "Recall", binary.recall(says, gold)),
            Column("f1", "F1", binary.f1(says, gold), headline=f"{self.title} F1"),
            Column("yes_ratio", "Says yes", binary.yes_ratio(says), ""),
            Column("parse_failures", "Neither", ratio(unclear), "lower"),
        )
        items = [_item(answer, yes) for answer, yes in zip(answers, says, strict=True)]
        counts = {"images": len(set(images)), **self.asked.left_out}
        return Score(metrics, items, counts)

    def figures(self, score: Score) -> Mapping[str, float]:
        """As evaluate.py prints them: fractions."""
        return score.values


def _entries(file: str, prompt: str) -> Iterator[Entry]:
    for where, record in records(file):
        try:
            key, text, label = (record[name] for name in ("question_id", "text", "label"))
            about = "video" if "video" in record else "image"
            shown = str(record[about])
            label = label.strip().lower()
        except (KeyError, TypeError, AttributeError):
            label = None
        if label not in ("yes", "no"):
            raise DataError(
                "this is no question of POPE: it needs question_id, image, text, and a label of "
                "yes or no",
                where=where,
                fix="give a file such as coco_pope_random.json",
            )
        meta = {"label": label, "question": str(text)}
        meta |= {"video": shown} if about == "video" else {}
        yield Entry(str(key), shown, fill(prompt, question=str(text)), meta)


def _item(answer: Answer, says: bool) -> Item:
    gold = answer.question.meta["label"]
    right = says == (gold == "yes")
    return Item(
        key=answer.question.key,
        group="Is it there?",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=gold,
        outcome="right" if right else "false yes" if says else "false no",
        score=float(right),
        said="yes" if says else "no",
    )
