"""Asks a predictor a list of questions and keeps every answer on disk as it comes."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from locvlm.errors import DataError
from locvlm.io import append_jsonl, cannot_read, drop_torn_line, read_jsonl, sha256
from locvlm.types import Question, Sample

if TYPE_CHECKING:  # the processor needs torch; asking and judging do not
    from locvlm.located import Located

FORMAT = 1
CHUNK = 128
logger = logging.getLogger(__name__)


class Predictor(Protocol):
    """What answers questions: a model, an endpoint, a file of recorded answers."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that its answers depend on, as JSON values: equal identities answer alike."""

    def answer(self, questions: Sequence[Question]) -> Iterable[str]:
        """The text said to each question; what comes before an error is kept."""

    def score(self, questions: Sequence[Question]) -> Iterable[list[float]]:
        """The log-likelihood of each of a question's `candidates`, likewise."""

    def decode(self, text: str, question: Question) -> "Located":
        """The locations in an answer, in pixels of the question's image."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a predictor said.

    Args:
        question: what it was asked.
        text: its words; for a closed question, the likeliest candidate.
        likelihoods: of the candidates of a closed question, in their order; else empty.
    """

    question: Question
    text: str
    likelihoods: tuple[float, ...] = ()


def ask(
    questions: Sequence[Question],
    predictor: Predictor,
    file: Path,
    *,
    chunk: int = CHUNK,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Answer]:
    """The answer to each question, from `file` where it was given before.

    Answers are appended to `file`, in the order of the questions, and forced to disk after every
    `chunk` questions, so that an interrupted run goes on where it stopped. Equal questions (same
    image, same words) are asked once. Nothing is asked when all answers are there.

    Args:
        questions: with or without candidates.
        predictor: who answers.
        file: JSON lines: a header that names the predictor, then one answer each.
        chunk: questions handed over at once; the predictor may order and batch them.
        on_progress: told the number of questions that have their answer.

    Raises:
        DataError: `file` holds the answers of another predictor, or is no file of answers.
    """
    keys = fingerprints(questions)
    known = _open(file, predictor)
    new: dict[str, Question] = {}
    for key, question in zip(keys, questions, strict=True):
        if key not in known:
            new.setdefault(key, question)
    n_known = sum(key in known for key in keys)
    logger.info("%d questions, %d answered before", len(questions), n_known)
    on_progress(n_known)
    for batch in _batches(list(new.items()), chunk):
        records = {}
        try:
            for record in _answers(batch, predictor):
                records[record["question"]] = record
        finally:
            append_jsonl(file, *(records[key] for key, _ in batch if key in records))
        known |= records
        on_progress(sum(key in known for key in keys))
    return [
        Answer(question, known[key]["text"], tuple(known[key].get("likelihoods", ())))
        for key, question in zip(keys, questions, strict=True)
    ]


def loaded(questions: Sequence[Question]) -> list[Question]:
    """The questions with the images that they name read from their files, as their views show them.

    Questions about one view of an image share its sample, as predictors expect.

    Raises:
        DataError: an image is missing, or is none; names the file.
    """
    samples: dict[tuple[int, str, str], Sample] = {}
    for question in questions:
        of = _of(question)
        if (question.image or question.view) and of not in samples:
            samples[of] = _shown(question)
    return [
        replace(question, sample=samples[_of(question)], image="", view="")
        if question.image or question.view
        else question
        for question in questions
    ]


def _of(question: Question) -> tuple[int, str, str]:
    return id(question.sample), question.image, question.view


def _shown(question: Question) -> Sample:
    """The question's sample with its image, read and changed as the question says."""
    from locvlm.images import image_size, viewed  # here: torch, which scoring does without

    sample, file = question.sample, question.image
    try:
        data = Path(file).read_bytes() if file else sample.image
    except OSError as error:
        raise cannot_read(file, error) from error
    if data is None:
        return sample
    where = file or sample.where
    if question.view:
        data = viewed(data, question.view, where)
    return replace(sample, image=data, size=image_size(data, where))


def fingerprints(questions: Sequence[Question]) -> list[str]:
    """A hash of what each question shows and asks: image, view, conversation, candidates."""
    images: dict[int | str, str] = {}
    keys = []
    for question in questions:
        image = question.sample.image
        of = question.image or id(image)
        if of not in images:
            images[of] = sha256(Path(question.image) if question.image else image or b"")
        content = [
            images[of] + question.view,  # not the changed pixels: nothing is decoded here
            [[message.role, list(message.parts)] for message in question.messages],
            list(question.candidates),
        ]
        keys.append(hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24])
    return keys


def _answers(
    batch: Sequence[tuple[str, Question]], predictor: Predictor
) -> Iterator[dict[str, Any]]:
    closed = [(key, question) for key, question in batch if question.candidates]
    free = [(key, question) for key, question in batch if not question.candidates]
    if free:
        texts = predictor.answer(loaded([question for _, question in free]))
        for (key, question), text in zip(free, texts, strict=True):
            yield {"question": key, "key": question.key, "text": text}
    if closed:
        scores = predictor.score(loaded([question for _, question in closed]))
        for (key, question), score in zip(closed, scores, strict=True):
            best = max(range(len(score)), key=score.__getitem__)
            text = question.candidates[best]
            yield {"question": key, "key": question.key, "text": text, "likelihoods": score}


def _batches(items: list[tuple[str, Question]], chunk: int) -> Iterator[list[tuple[str, Question]]]:
    for start in range(0, len(items), chunk):
        yield items[start : start + chunk]


def header(predictor: Predictor) -> dict[str, Any]:
    """The first line of a file of answers."""
    return {"format": FORMAT, "predictor": json.loads(json.dumps(dict(predictor.identity)))}


def answers_in(
    file: Path, predictor: Predictor, *, growing: bool = False
) -> dict[str, dict[str, Any]]:
    """The answers in a file, by the fingerprints of their questions; none where it is empty.

    Args:
        file: as `ask` writes it.
        predictor: who gave them.
        growing: another process may be writing a line: one that cannot be read is left out.

    Raises:
        DataError: `file` holds the answers of another predictor, or is no file of answers.
    """
    skip = (lambda _: None) if growing else None
    records = [record for _, record in read_jsonl(file, skip)] if file.exists() else []
    if not records:
        return {}
    found, wanted = records[0], header(predictor)
    if not isinstance(found, dict) or not isinstance(found.get("predictor"), dict):
        raise DataError(
            "this is no file of answers: its first line names no predictor",
            where=str(file),
            fix="give another output folder",
        )
    if found != wanted:
        raise DataError(
            "these answers were given by another model, or with other settings: "
            f"{_difference(found['predictor'], wanted['predictor'])}",
            where=str(file),
            fix="add `fresh=true` to forget them and ask anew, or give another output folder",
        )
    for number, record in enumerate(records[1:], 2):
        if not isinstance(record, dict) or not {"question", "text"} <= record.keys():
            raise DataError(
                "this line is no answer",
                where=f"{file}, line {number}",
                fix="delete the line, or add `fresh=true` to ask anew",
            )
    return {record["question"]: record for record in records[1:]}


def _open(file: Path, predictor: Predictor) -> dict[str, dict[str, Any]]:
    """The answers in `file`, which is begun if it is not there."""
    drop_torn_line(file)
    if not file.exists() or not file.stat().st_size:
        append_jsonl(file, header(predictor))
    return answers_in(file, predictor)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The names of what differs between two identities."""
    names = sorted(found.keys() | wanted.keys())
    return ", ".join(name for name in names if found.get(name) != wanted.get(name)) or "format"
