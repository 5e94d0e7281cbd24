"""A benchmark of several parts that ask about the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from locvlm.errors import ConfigError
from locvlm.evaluation import judges
from locvlm.evaluation.benchmarks.asking import Read
from locvlm.evaluation.results import Score
from locvlm.predictors.ask import Answer
from locvlm.types import Question, Sample

VERSION = "1"  # raise it whenever the same answers could score differently


class Part(Protocol):
    """One kind of question and its score."""

    @property
    def name(self) -> str:
        """Begins the keys of its questions."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it, as JSON values."""

    def questions(self, samples: Sequence[Sample]) -> list[Question]:
        """All that is asked; the same for the same samples."""

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Metrics and items from the answers to its questions, in their order."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Several parts that ask about the same images.

    Args:
        name: of the benchmark.
        samples: annotated images.
        parts: what is asked about them, in the order of the report.

    Raises:
        ConfigError: there are no images, or no parts.
    """

    name: str
    samples: Sequence[Sample]
    parts: Sequence[Part]

    def __post_init__(self) -> None:
        for what in ("samples", "parts"):
            if not getattr(self, what):
                raise ConfigError(f"benchmark {self.name!r} has no {what}", where="benchmark")

    @property
    def version(self) -> str:
        """Changes whenever the same answers could score differently."""
        return f"{VERSION}, judges {judges.VERSION}"

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The protocol of each part, by its name."""
        return {part.name: dict(part.protocol) for part in self.parts}

    def questions(self) -> list[Question]:
        """Those of all parts, one part after the other."""
        return [question for part in self.parts for question in part.questions(self.samples)]

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """The scores of all parts, joined."""
        scores = [
            (part, part.score([a for a in answers if _asked_by(part, a)], read))
            for part in self.parts
        ]
        return Score(
            [metric for _, score in scores for metric in score.metrics],
            [item for _, score in scores for item in score.items],
            {f"{part.name}: {k}": n for part, score in scores for k, n in score.counts.items()},
            [histogram for _, score in scores for histogram in score.histograms],
        )


def _asked_by(part: Part, answer: Answer) -> bool:
    return answer.question.key.startswith(f"{part.name}/")
