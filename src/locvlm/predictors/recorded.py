"""Answers recorded before, by any model: scored like a model's own, without running it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from locvlm.errors import DataError
from locvlm.types import Question, Size

if TYPE_CHECKING:  # the processor needs torch; recorded answers do not
    from locvlm.located import Located

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A predictor that looks its answers up.

    Args:
        name: says whose answers they are.
        read: finds locations in a text about an image of (width, height), such as
            `Processor.decode` of the model that gave the answers.
        answers: what was said, by question key.
        likelihoods: of the candidates of closed questions, by question key.
    """

    name: str
    read: Callable[[str, Size], "Located"]
    answers: Mapping[str, str] = field(default_factory=dict)
    likelihoods: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The name; the table may grow without becoming another predictor."""
        return {"kind": "recorded", "name": self.name}

    def answer(self, questions: Sequence[Question]) -> list[str]:
        """What was said to each question.

        Raises:
            DataError: nothing was recorded for some of them.
        """
        return _look_up(self.answers, questions, self.name)

    def score(self, questions: Sequence[Question]) -> list[list[float]]:
        """The recorded likelihoods of each question's candidates.

        Raises:
            DataError: nothing was recorded for some of them.
        """
        return [list(values) for values in _look_up(self.likelihoods, questions, self.name)]

    def decode(self, text: str, question: Question) -> "Located":
        """The locations in an answer, in pixels of the question's image."""
        if question.sample.size is None:
            raise DataError("a question without an image has no locations", where=question.key)
        return self.read(text, question.sample.size)


def _look_up(table: Mapping[str, T], questions: Sequence[Question], name: str) -> list[T]:
    missing = [question.key for question in questions if question.key not in table]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(questions)} questions have no recorded answer, "
            f"such as {missing[0]!r}",
            where=name,
            fix="record the missing answers, or score the questions that have one",
        )
    return [table[question.key] for question in questions]
