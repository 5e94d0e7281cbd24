"""GQA: questions about scenes that take several steps of reasoning."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from locvlm.errors import DataError
from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.kinds import by_kind
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges_free import VERSION, contains
from locvlm.evaluation.results import Column, Item, Metric, Row, Score, Submission
from locvlm.io import read_json
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Question

OPEN = "query"  # the structure of open questions; eval.py calls all others binary
Consistency: TypeAlias = list[float | None]


class Gqa:
    """GQA's accuracy on its balanced questions, by structure and meaning, and its consistency.

    Unbalanced questions are asked where a balanced one entails them, and count for consistency
    alone: a file of all questions measures it, one of the balanced questions does not.

    Args:
        questions: GQA's file (an object of questions by their ids), or a folder of its parts.
        images: folder of the images; None for scoring recorded answers.
        prompt: with {question}.
        seed: of the resampling.

    Raises:
        DataError: a file is missing or is none of GQA's, or its images are missing.

    Source: Hudson and Manning, GQA, CVPR 2019; the rules are those of its eval.py.
    """

    name = "gqa"
    version = f"1, judges {VERSION}"

    def __init__(
        self,
        questions: str | Path,
        images: str | Path | None = None,
        prompt: str = "{question}",
        seed: int = 0,
    ):
        self.split = Path(questions).stem
        self.prompt = prompt
        self.seed = seed
        self.files = _files(Path(questions))
        entries = {entry.id: entry for file in self.files for entry in _entries(file, prompt)}
        wanted = _wanted(entries)
        if not wanted:
            raise DataError(
                "it holds no balanced question, and GQA's metrics stand on those alone",
                where=str(questions),
            )
        self.unasked = entries.keys() - wanted
        self.asked = to_questions(
            self.name,
            (entry for key, entry in entries.items() if key in wanted),
            source=str(questions),
            images=images,
        )

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "prompt": self.prompt,
            "rule": "the answer without its last stop, in lower case, equals the right one; "
            "balanced questions only",
            "contains": "the words of the right answer stand in the answer",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """The official file (questionId, prediction), or LLaVA's lines (question_id, text)."""
        given = read_answers(file, ("questionId", "question_id"), ("prediction", "text"))
        texts = {key: text for key, text in given.texts.items() if key not in self.unasked}
        return replace(given, texts=texts)

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """The accuracies, the answers that hold the right one, and the consistency."""
        judged = [answer for answer in answers if "gold" in answer.question.meta]
        right = {answer.question.meta["id"]: _is_right(answer) for answer in judged}
        balanced = [answer for answer in judged if answer.question.meta["balanced"]]
        consistency, unanswered = _consistency(balanced, right)
        scores = [float(right[answer.question.meta["id"]]) for answer in balanced]
        metrics = self._metrics(balanced, scores, consistency) if balanced else []
        items = [_item(answer, score) for answer, score in zip(balanced, scores, strict=True)]
        counts = {
            "images": len({item.image for item in items}),
            "unbalanced, for consistency": len(judged) - len(balanced),
            "entailed questions without an answer": unanswered,
            "not scored, without a right answer": len(answers) - len(judged),
            "left out: unbalanced, entailed by none": len(self.unasked),
            **self.asked.left_out,
        }
        return Score(metrics, items, {what: n for what, n in counts.items() if n})

    def figures(self, score: Score) -> Mapping[str, float]:
        """As eval.py prints them: percent, two decimals."""
        return {key: round(100 * value, 2) for key, value in score.values.items()}

    def submission(self, answers: Sequence[Answer]) -> Submission:
        """The predictions that eval.py and the test server read."""
        rows = [
            {"questionId": answer.question.meta["id"], "prediction": prediction(answer.text)}
            for answer in answers
        ]
        return Submission("gqa_predictions.json", json.dumps(rows))

    def _metrics(
        self, answers: Sequence[Answer], scores: Sequence[float], consistency: Consistency
    ) -> list[Metric]:
        metas = [answer.question.meta for answer in answers]
        images = [answer.question.sample.key for answer in answers]
        is_open = [meta["structural"] == OPEN for meta in metas]
        said = [contains(answer.text, answer.question.meta["gold"]) for answer in answers]
        columns = [
            Column("accuracy", "Accuracy", ratio(scores), headline="GQA accuracy"),
            Column("contains", "Contains", ratio(said)),
        ]
        if any(meta["structural"] for meta in metas):
            is_binary = [bool(meta["structural"]) and meta["structural"] != OPEN for meta in metas]
            columns += [
                Column("binary", "Binary", ratio(scores, is_binary)),
                Column("open", "Open", ratio(scores, is_open)),
            ]
        measured = [value is not None for value in consistency]
        if any(measured):
            of_entailed = ratio([value or 0 for value in consistency], measured)
            columns.append(Column("consistency", "Consistency", of_entailed))
        metrics = Row(self.name, "GQA", self.split, images, self.seed).metrics(*columns)
        for key, table in (("structural", "GQA, by structure"), ("semantic", "GQA, by meaning")):
            kinds = [meta[key] for meta in metas]
            metrics += by_kind(f"{self.name}.{key}", table, kinds, scores, images, seed=self.seed)
        return metrics


def prediction(text: str) -> str:
    """The answer as eval.py compares it: without its last stops, in lower case.

    Source: LLaVA's convert_gqa_for_eval.py.

    >>> prediction("Table.")
    'table'
    """
    return text.strip().rstrip(".").lower()


def _is_right(answer: Answer) -> bool:
    return bool(prediction(answer.text) == answer.question.meta["gold"])


def _consistency(answers: Sequence[Answer], right: Mapping[str, bool]) -> tuple[Consistency, int]:
    """For each right answer the share of entailed questions that are right too; None for others.

    Returns:
        Also how many entailed questions have no answer; they are left out.
    """
    shares: Consistency = []
    unanswered = 0
    for answer in answers:
        meta = answer.question.meta
        others = [key for key in meta["entailed"] if key != meta["id"]]
        entailed = others if right[meta["id"]] else []
        outcomes = [right[key] for key in entailed if key in right]
        shares.append(sum(outcomes) / len(outcomes) if outcomes else None)
        unanswered += len(entailed) - len(outcomes)
    return shares, unanswered


def _wanted(entries: Mapping[str, Entry]) -> set[str]:
    """Ids of what is asked: balanced and what they entail; all where no right answer is known."""
    if not any("gold" in entry.meta for entry in entries.values()):
        return set(entries)
    balanced = {key for key, entry in entries.items() if entry.meta["balanced"]}
    entailed = {other for key in balanced for other in entries[key].meta["entailed"]}
    return balanced | (entailed & entries.keys())


def _files(questions: Path) -> list[str]:
    if not questions.is_dir():
        return [str(questions)]
    found = sorted(str(file) for file in questions.glob("*.json"))
    if not found:
        raise DataError("this folder holds no .json files", where=str(questions))
    return found


def _entries(file: str, prompt: str) -> Iterator[Entry]:
    records = read_json(file)
    if not isinstance(records, dict):
        raise DataError(
            "this is no file of GQA: it holds no object of questions by their ids",
            where=file,
            fix="give a file such as testdev_balanced_questions.json",
        )
    for key, record in records.items():
        try:
            types = record.get("types") or {}
            meta = {
                "balanced": bool(record["isBalanced"]),
                "structural": str(types.get("structural") or ""),
                "semantic": str(types.get("semantic") or ""),
                "entailed": [str(other) for other in record.get("entailed") or ()],
            }
            if (gold := record.get("answer")) is not None:
                meta["gold"] = str(gold)
            parts = fill(prompt, question=str(record["question"]))
            image = f"{record['imageId']}.jpg"
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                "this is no question of GQA: it needs question, imageId and isBalanced",
                where=f"{file}, question {key!r}",
            ) from error
        yield Entry(key, image, parts, meta)


def _item(answer: Answer, score: float) -> Item:
    return Item(
        key=answer.question.key,
        group="What is asked about scenes",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=answer.question.meta["gold"],
        outcome="right" if score else "wrong",
        score=score,
    )
