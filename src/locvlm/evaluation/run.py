"""Runs a benchmark: asks, judges, and writes what was found."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import exp, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.asking import Read
from locvlm.evaluation.leakage import Leakage, coco_notes, leakage
from locvlm.evaluation.results import FORMAT, Score, Submission, item_record, metric_record
from locvlm.io import read_json, read_jsonl, sha256, write_json, write_text
from locvlm.predictors.ask import Answer, Predictor, ask, fingerprints, loaded
from locvlm.predictors.shares import share_files
from locvlm.types import Question

if TYPE_CHECKING:
    from locvlm.located import Located

logger = logging.getLogger(__name__)
ANSWERS, ITEMS, RESULTS = "answers.jsonl", "items.jsonl", "results.json"
_ELSEWHERE = (
    "choose another output=FOLDER, or delete these; without output= `evaluate` gives each "
    "benchmark a folder of its own"
)


class Benchmark(Protocol):
    """Questions and a score."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Changes whenever the same answers could score differently."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it, as JSON values."""

    @property
    def files(self) -> Sequence[str]:
        """What the truth was read from; none where the questions are made."""

    def questions(self) -> list[Question]:
        """All that is asked, always the same."""

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Metrics and items from the answers, in the order of the questions."""


@runtime_checkable
class Submits(Protocol):
    """A benchmark whose own program or test server reads a file of answers."""

    def submission(self, answers: Sequence[Answer]) -> Submission:
        """That file, of the answers to all questions."""


class Run(NamedTuple):
    """What a run found, as plain data: the contents of its files; and its images, by their keys."""

    results: dict[str, Any]
    items: list[dict[str, Any]]
    image_of: Callable[[str], bytes | None]


def run_benchmark(
    benchmark: Benchmark,
    predictor: Predictor,
    folder: Path,
    *,
    subject: str,
    settings: Mapping[str, Any] | None = None,
    ask: Callable[..., list[Answer]] = ask,
    trained_on: Sequence[str] = (),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Run:
    """Asks, judges, and writes answers.jsonl, items.jsonl and results.json into `folder`.

    Beside them goes the file for the benchmark's own program or server, where there is one. Answers
    that are there already are not asked for again.

    Args:
        benchmark: what to ask.
        predictor: whom to ask.
        folder: where the files go.
        subject: what is measured, in the words of the report's title.
        settings: the configuration, for the record.
        ask: how the answers are had; takes the arguments of `predictors.ask`.
        trained_on: folders of shards in which the benchmark's images are looked for.
        on_progress: told the number of answered questions and of all.

    Raises:
        DataError: the benchmark has no question, or two with one key.
    """
    questions = benchmark.questions()
    _check(questions, benchmark.name)
    told = "benchmark %s: %d questions; benchmark=... chooses another"
    logger.info(told, benchmark.name, len(questions))
    answers = ask(
        questions,
        predictor,
        folder / ANSWERS,
        on_progress=lambda done: on_progress(done, len(questions)),
    )
    if isinstance(benchmark, Submits):
        file = benchmark.submission(answers)
        write_text(folder / file.name, file.text)
    score = _with_confidence(
        benchmark.score(answers, lambda answer: _decoded(answer, predictor)), answers
    )
    results = write_results(
        folder,
        benchmark,
        score,
        title=f"{subject} on {benchmark.name}",
        n_questions=len(questions),
        predictor=predictor.identity,
        data={"sha256": _digest(questions)} | {f: sha256(Path(f)) for f in benchmark.files},
        settings=settings or {},
        leaks=leakage(benchmark.name, questions, trained_on) if trained_on else None,
    )
    of = {question.sample.key: question for question in questions}
    items = [item_record(item) for item in score.items]
    return Run(results, items, lambda image: loaded([of[image]])[0].sample.image)


def check_folder(folder: Path, benchmark: Benchmark) -> None:
    """Refuses a folder with the results of another benchmark, file or split, which would be lost.

    Before there are results, answers tell by their keys which benchmark was begun there.

    Raises:
        ConfigError: names what is there.
    """
    if not (folder / RESULTS).is_file():
        _check_answers(folder / ANSWERS, benchmark)
        return
    before = read_json(folder / RESULTS)
    hashes = {sha256(Path(file)) for file in benchmark.files}
    split = dict(benchmark.protocol).get("split")
    try:
        name, there = before["benchmark"], before["protocol"].get("split")
        same_files = not benchmark.files or bool(hashes & set(before["data"].values()))
    except (LookupError, TypeError, AttributeError):
        return  # no results of ours
    if name == benchmark.name and there == split and same_files:
        return
    raise ConfigError(
        f"this folder holds results of {' '.join(filter(None, (name, there)))}"
        + ("" if (name, there) != (benchmark.name, split) else ", from other files"),
        where=str(folder),
        fix=_ELSEWHERE,
    )


def _check_answers(file: Path, benchmark: Benchmark) -> None:
    found = [
        record["key"]
        for one in [file, *share_files(file)]
        if one.is_file()
        for _, record in read_jsonl(one, lambda _: None)  # a crash may have torn the last line
        if isinstance(record, dict) and "key" in record and "question" in record
    ]
    if found and not {question.key for question in benchmark.questions()} & set(found):
        raise ConfigError(
            "this folder holds an unfinished run of another benchmark, with answers to questions "
            f"such as {found[0]!r}",
            where=str(file.parent),
            fix=_ELSEWHERE,
        )


def write_results(
    folder: Path,
    benchmark: Benchmark,
    score: Score,
    *,
    title: str,
    n_questions: int,
    predictor: Mapping[str, Any],
    data: Mapping[str, Any],
    settings: Mapping[str, Any],
    leaks: Leakage | None = None,
) -> dict[str, Any]:
    """Writes items.jsonl and results.json into `folder`.

    Args:
        folder: where the files go.
        benchmark: that was run.
        score: what it found.
        title: of the report.
        n_questions: answered or not.
        predictor: the identity of who answered.
        data: hashes of what was asked.
        settings: the configuration.
        leaks: what of the benchmark stands in the training data, where that is known.

    Returns:
        The contents of results.json.
    """
    # A benchmark that shows images in several ways knows how many there are.
    images = score.counts.get("images", len({item.image for item in score.items}))
    results = {
        "format": FORMAT,
        "title": title,
        "summary": f"{images:,} images, {len(score.items):,} answers to {n_questions:,} questions, "
        f"protocol {benchmark.version}{_left_out(score.counts)}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "locvlm": version("locvlm"),
        "benchmark": benchmark.name,
        "version": benchmark.version,
        "protocol": dict(benchmark.protocol),
        "predictor": dict(predictor),
        "data": {**data, "images": images},
        "counts": {
            "questions": n_questions,
            **score.counts,
            **({"images in the training data": leaks.record["leaked"]} if leaks else {}),
        },
        "notes": [*(leaks.notes if leaks else ()), *coco_notes(item.image for item in score.items)],
        **({"leaks": leaks.record} if leaks else {}),
        "settings": dict(settings),
        "metrics": [metric_record(metric) for metric in score.metrics],
        "histograms": [asdict(histogram) for histogram in score.histograms],
    }
    lines = (json.dumps(item_record(item), ensure_ascii=False) + "\n" for item in score.items)
    write_text(folder / ITEMS, "".join(lines))
    write_json(folder / RESULTS, results)
    return results


def _left_out(counts: Mapping[str, int]) -> str:
    return "".join(f"; {why}, {n:,}" for why, n in counts.items() if why.startswith("left out"))


def _decoded(answer: Answer, predictor: Predictor) -> "Located":
    return predictor.decode(answer.text, loaded([answer.question])[0])


def confidence(answer: Answer) -> float | None:
    """The share of the likelihood that the said candidate has; None for a free answer."""
    if not answer.likelihoods or not all(map(isfinite, answer.likelihoods)):
        return None
    best = max(answer.likelihoods)
    return 1 / sum(exp(value - best) for value in answer.likelihoods)


def _with_confidence(score: Score, answers: Sequence[Answer]) -> Score:
    sure = {answer.question.key: confidence(answer) for answer in answers}
    items = [
        replace(item, confidence=sure.get(item.key)) if item.said else item for item in score.items
    ]
    return replace(score, items=items)


def _check(questions: Sequence[Question], name: str) -> None:
    if not questions:
        raise DataError(
            f"benchmark {name!r} has nothing to ask: no image has an object that its name tells "
            "apart",
            fix="give annotations in which some category occurs once in an image",
        )
    twice, n = Counter(question.key for question in questions).most_common(1)[0]
    if n > 1:
        raise DataError(f"benchmark {name!r} has two questions with the key {twice!r}")


def _digest(questions: Sequence[Question]) -> str:
    """One hash of all that was asked and shown, in order."""
    return hashlib.sha256("".join(fingerprints(questions)).encode()).hexdigest()
