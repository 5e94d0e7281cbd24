"""Answers recorded before, by any model: scored like a model's own, without running it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from locvlm.dialects import Dialect
from locvlm.errors import DataError
from locvlm.io import read_jsonl, sha256
from locvlm.predictors.ask import fingerprints
from locvlm.predictors.places import locate
from locvlm.types import Question, Size

if TYPE_CHECKING:  # the processor needs torch; recorded answers do not
    from locvlm.located import Located

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A predictor that looks its answers up.

    Args:
        name: says whose answers they are.
        read: finds locations in a text about an image of (width, height), such as
            `Processor.decode` of the model that gave the answers.
        answers: what was said, by question key or fingerprint.
        likelihoods: of the candidates of closed questions, likewise.
        sha256: of the file that they were read from; empty: from none.
        exact: whether the tables hold fingerprints, so that a question that was asked in other
            words or about another image can be told.
    """

    name: str
    read: Callable[[str, Size], "Located"]
    answers: Mapping[str, str] = field(default_factory=dict)
    likelihoods: Mapping[str, Sequence[float]] = field(default_factory=dict)
    sha256: str = ""
    exact: bool = False

    @property
    def identity(self) -> Mapping[str, Any]:
        """The file's hash; or the name: a table may grow without becoming another predictor."""
        if self.sha256:
            return {"kind": "recorded", "sha256": self.sha256}
        return {"kind": "recorded", "name": self.name}

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """What was said to each question.

        Raises:
            DataError: nothing was recorded for some of them.
        """
        return self._look_up(self.answers, questions)

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """The recorded likelihoods of each question's candidates.

        Raises:
            DataError: nothing was recorded for some of them.
        """
        return [list(values) for values in self._look_up(self.likelihoods, questions)]

    def decode(self, text: str, question: Question) -> "Located":
        """The locations in an answer, in pixels of the question's image."""
        if question.sample.size is None:
            raise DataError("a question without an image has no locations", where=question.key)
        return self.read(text, question.sample.size)

    def _look_up(self, table: Mapping[str, T], questions: Sequence[Question]) -> list[T]:
        asked = fingerprints(questions) if self.exact else [""] * len(questions)
        places = [
            mark if mark in table else question.key
            for mark, question in zip(asked, questions, strict=True)
        ]
        missing = [place for place in places if place not in table]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(questions)} questions have no recorded answer, "
                f"such as {missing[0]!r}",
                where=self.name,
                fix="record the missing answers, or score the questions that have one",
            )
        others = sum(place not in asked for place in places) if self.exact else 0
        if others:
            logger.warning(
                "%d of %d questions were recorded with other words, or another image or view: "
                "they are taken by their keys",
                others,
                len(questions),
            )
        return [table[place] for place in places]


def read_recorded(answers: str | Path, dialect: Dialect, name: str | None = None) -> Recorded:
    """The answers in a file as a predictor.

    Args:
        answers: an answers.jsonl of an earlier run, or lines of {"key": ..., "text": ...}, with
            "likelihoods": [...] for closed questions.
        dialect: how they write locations.
        name: what they are called; None: as the file, without its ending.

    Raises:
        DataError: the file is missing, holds something else, or two answers to one question.
    """
    file = Path(answers)
    texts: dict[str, str] = {}
    likelihoods: dict[str, Sequence[float]] = {}
    exact = False
    for number, record in read_jsonl(file):
        if number == 1 and isinstance(record, dict) and "predictor" in record:
            exact = True
            continue
        _check(record, f"{file}, line {number}", texts)
        for place in {record["key"], record.get("question", record["key"])}:
            texts[place] = record["text"]
            likelihoods[place] = record.get("likelihoods", ())
    return Recorded(
        name or file.stem,
        partial(locate, dialect),
        texts,
        {place: values for place, values in likelihoods.items() if values},
        sha256(file),
        exact,
    )


def _check(record: Any, where: str, known: Mapping[str, str]) -> None:
    if not isinstance(record, dict) or not (
        isinstance(record.get("key"), str)
        and isinstance(record.get("text"), str)
        and isinstance(record.get("question", ""), str)
        and isinstance(record.get("likelihoods", []), list)
        and all(isinstance(value, int | float) for value in record.get("likelihoods", []))
    ):
        raise DataError(
            "this line is no answer",
            where=where,
            fix='each line is a JSON object such as {"key": "scene/1", "text": "Yes."}',
        )
    if record["key"] in known:
        raise DataError(f"a second answer to {record['key']!r}", where=where, fix="delete one")
