"""A benchmark of several parts that ask about the same images."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from locvlm.data.quarantine import Quarantine
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation import judges
from locvlm.evaluation.benchmarks.asking import Read
from locvlm.evaluation.results import Score
from locvlm.images import decode_image
from locvlm.predictors.ask import Answer
from locvlm.types import Question, Sample

VERSION = "1"  # raise it whenever the same answers could score differently
logger = logging.getLogger(__name__)


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


class Source(Protocol):
    """Where annotated images come from, such as a reader of COCO files."""

    @property
    def sources(self) -> Sequence[str]:
        """Files that it reads, or that say what they hold; none where images are made."""

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """All samples; what cannot be used goes into `quarantine`."""


class Suite:
    """Several parts that ask about the same images.

    Args:
        name: of the benchmark.
        source: gives the images with their annotations; read at once.
        parts: what is asked about them, in the order of the report; the names serve configs.

    Raises:
        ConfigError: there are no parts.
        DataError: not a single image can be used.
    """

    def __init__(self, name: str, source: Source, parts: Mapping[str, Part]):
        if not parts:
            raise ConfigError(f"benchmark {name!r} has no parts", where="benchmark.parts")
        quarantine = Quarantine()
        self.name = name
        self.files = list(source.sources)
        self.parts = list(parts.values())
        self.samples = [s for s in source.read(quarantine) if _is_readable(s, quarantine)]
        self.left_out = quarantine.reasons
        reasons = quarantine.summary
        if not self.samples:
            raise DataError(
                f"no image can be used: {reasons or 'there are none'}",
                where=f"benchmark {name}",
                fix="give annotations and the folder of their images",
            )
        if reasons:
            logger.warning("benchmark %s leaves records out: %s", name, reasons)

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
            {f"{part.name}: {k}": n for part, score in scores for k, n in score.counts.items()}
            | {f"left out: {reason}": n for reason, n in self.left_out.items()},
            [histogram for _, score in scores for histogram in score.histograms],
        )


def _is_readable(sample: Sample, quarantine: Quarantine) -> bool:
    """Whether the image can be decoded: better known now than after an hour of asking."""
    if sample.image is None:
        return False
    try:
        decode_image(sample.image, sample.source)
    except DataError as error:
        quarantine.add(sample.key, error)
        return False
    return True


def _asked_by(part: Part, answer: Answer) -> bool:
    return answer.question.key.startswith(f"{part.name}/")
