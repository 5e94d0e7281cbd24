"""Questions about videos: ActivityNet-QA, MSRVTT-QA, MSVD-QA and TGIF-QA's FrameQA."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.video_files import (
    Found,
    read_activitynet_qa,
    read_open_ended_qa,
    read_tgif_frameqa,
)
from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.judges_free import (
    VERSION,
    Case,
    Judge,
    Verdict,
    contains,
    exact,
    polarity,
)
from locvlm.evaluation.results import Column, Item, Metric, Row, Score
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Question

BEST = 5  # a judge's score


class VideoQA:
    """Open questions about videos, each with one right answer.

    Accuracy is that of one judge, over all questions and over each kind; the offline judges stand
    beside it, whoever judges. Videos are not shown yet: answers come from files.

    Args:
        name: of the benchmark.
        title: of its table.
        files: what the questions were read from.
        found: the questions.
        judge: decides which answers are right.
        ids: keys of the question in a file of answers; the first one that a record has counts.
        total: what accuracy over all questions is called.
        prompt: with {question}.
        seed: of the resampling.
    """

    about = "video"  # which cannot be asked about yet

    def __init__(
        self,
        name: str,
        title: str,
        files: Sequence[str],
        found: Found,
        judge: Judge,
        ids: Sequence[str],
        *,
        total: str = "accuracy",
        prompt: str = "{question}",
        seed: int = 0,
    ):
        self.name = name
        self.title = title
        self.files = list(files)
        self.judge = judge
        self.ids = ids
        self.total = total
        self.kinds = found.kinds
        self.prompt = prompt
        self.seed = seed
        self.left_out = {f"left out: {why}": n for why, n in found.left_out.items()}
        self.asked = to_questions(
            name,
            (
                Entry(
                    one.id,
                    one.video,
                    fill(prompt, question=one.question),
                    {
                        "video": one.video,
                        "question": one.question,
                        "gold": one.gold,
                        "kind": one.kind,
                    },
                )
                for one in found.asked
            ),
            source=self.files[0],
            images=None,
        )

    @property
    def version(self) -> str:
        """Changes whenever the same answers could score differently."""
        judge = self.judge.protocol
        return f"1, judge {judge['kind']} {judge['version']}, rules {VERSION}"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": [Path(file).stem for file in self.files],
            "prompt": self.prompt,
            "judge": dict(self.judge.protocol),
            "beside": "exact: the same after VQA's normalization; contains: holds the right "
            "words; polarity: the first yes, no or not is right, where the truth is yes or no",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by the question's id."""
        return read_answers(file, self.ids, ("answer", "text", "pred", "prediction"))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy over all and each kind, and what the other judges say of the same answers."""
        cases = [_case(answer) for answer in answers]
        verdicts = self.judge(cases)
        videos = [answer.question.sample.key for answer in answers]
        metrics = [*self._overall(cases, verdicts, videos), *self._kinds(answers, verdicts, videos)]
        items = [_item(answer, verdict) for answer, verdict in zip(answers, verdicts, strict=True)]
        counts = {"videos": len(set(videos)), **self.left_out, **self.asked.left_out}
        return Score(metrics, items, counts)

    def figures(self, score: Score) -> Mapping[str, float]:
        """Fractions; a language model's mean score from 0 to 5."""
        values = score.values
        return values | ({"score": BEST * values["score"]} if "score" in values else {})

    def _overall(
        self, cases: Sequence[Case], verdicts: Sequence[Verdict], videos: Sequence[str]
    ) -> list[Metric]:
        right = [verdict.right for verdict in verdicts]
        agrees = [polarity(case.answer, case.gold) for case in cases]
        columns = [
            Column(self.total, "Accuracy", ratio(right), headline=f"{self.title} accuracy"),
            Column("exact", "Exact", ratio([exact(case.answer, case.gold) for case in cases])),
            Column(
                "contains", "Contains", ratio([contains(case.answer, case.gold) for case in cases])
            ),
            Column(
                "polarity",
                "Right yes or no",
                ratio([bool(one) for one in agrees], [one is not None for one in agrees]),
            ),
        ]
        scores = [verdict.score for verdict in verdicts]
        unparsable = [verdict.unparsable for verdict in verdicts]
        if any(unparsable) or any(score is not None for score in scores):
            given = [score is not None for score in scores]
            parts = [(score or 0) / BEST for score in scores]
            columns += [
                Column("score", f"Score of {BEST}", ratio(parts, given)),
                Column("unparsable", "Unparsable verdicts", ratio(unparsable), "lower"),
            ]
        return Row(self.name, self.title, "all", videos, self.seed).metrics(*columns)

    def _kinds(
        self, answers: Sequence[Answer], verdicts: Sequence[Verdict], videos: Sequence[str]
    ) -> list[Metric]:
        kinds = [answer.question.meta["kind"] for answer in answers]
        right = [verdict.right for verdict in verdicts]
        return [
            metric
            for name, members in self.kinds.items()
            for metric in Row(
                self.name, self.title, name.replace("_", " "), videos, self.seed
            ).metrics(Column(name, "Accuracy", ratio(right, [kind in members for kind in kinds])))
        ]


def activitynet_qa(
    questions: str, annotations: str, judge: Judge, *, prompt: str = "{question}", seed: int = 0
) -> VideoQA:
    """ActivityNet-QA: motion, spatial, temporal and free questions, those of six kinds.

    Args:
        questions: test_q.json: video_name, question, question_id.
        annotations: test_a.json: answer, type, question_id.
        judge: the official rule is `verbatim`.
        prompt: with {question}.
        seed: of the resampling.

    Raises:
        DataError: a file is missing or holds something else.

    Source: Yu et al., ActivityNet-QA, AAAI 2019, and its eval.py, which counts yes/no as free.
    """
    return VideoQA(
        "activitynet_qa",
        "ActivityNet-QA",
        [questions, annotations],
        read_activitynet_qa(questions, annotations),
        judge,
        ("question_id", "id"),
        total="all",
        prompt=prompt,
        seed=seed,
    )


def open_ended_qa(
    name: str,
    title: str,
    questions: str,
    judge: Judge,
    *,
    prompt: str = "{question}",
    seed: int = 0,
) -> VideoQA:
    """MSRVTT-QA or MSVD-QA: what, who, how, when and where.

    Args:
        name: of the benchmark.
        title: of its table.
        questions: test_qa.json: id, video_id, question, answer.
        judge: decides which answers are right.
        prompt: with {question}.
        seed: of the resampling.

    Raises:
        DataError: the file is missing or holds something else.

    Source: Xu et al., Video Question Answering via Gradually Refined Attention over Appearance and
    Motion, ACM MM 2017.
    """
    found = read_open_ended_qa(questions)
    ids = ("id", "question_id")
    return VideoQA(name, title, [questions], found, judge, ids, prompt=prompt, seed=seed)


def tgif_frameqa(
    questions: str, judge: Judge, *, prompt: str = "{question}", seed: int = 0
) -> VideoQA:
    """TGIF-QA's FrameQA: objects, numbers, colours and locations in animated pictures.

    Args:
        questions: Test_frameqa_question.csv, which tabs separate; answers refer to its vid_id.
        judge: decides which answers are right.
        prompt: with {question}.
        seed: of the resampling.

    Raises:
        DataError: the file is missing or holds something else.

    Source: Jang et al., TGIF-QA, CVPR 2017.
    """
    return VideoQA(
        "tgif_frameqa",
        "TGIF-QA, FrameQA",
        [questions],
        read_tgif_frameqa(questions),
        judge,
        ("question_id", "vid_id", "key", "id"),
        prompt=prompt,
        seed=seed,
    )


def _case(answer: Answer) -> Case:
    meta = answer.question.meta
    return Case(answer.question.key, meta["question"], meta["gold"], answer.text)


def _item(answer: Answer, verdict: Verdict) -> Item:
    return Item(
        key=answer.question.key,
        group="",  # there is no picture to show
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=answer.question.meta["gold"],
        outcome="no verdict" if verdict.unparsable else "right" if verdict.right else "wrong",
        score=float(verdict.right),
    )
