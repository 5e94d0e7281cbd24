"""Region description: what is at this location, in the words that people referred to it by?"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read, seeded
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.referring import Expressions, Referred, referred
from locvlm.evaluation.benchmarks.worded import worded_columns, worded_item
from locvlm.evaluation.metrics.captions import bare_description
from locvlm.evaluation.metrics.wording import (
    Tokenizer,
    check_tokenizer,
    wording,
    wording_protocol,
)
from locvlm.evaluation.results import Mark, Row, Score
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Box, Question


class RegionDescription:
    """One question for each referred object, against all that people said of it.

    "There is a" and the final stop are taken off the answer; the metrics of the answer as it
    stands are beside.

    Args:
        source: reader of one split of RefCOCO, RefCOCO+ or RefCOCOg, with `verbatim` expressions.
        prompts: with {location}; one is drawn for each object.
        tokenizer: ptb, as papers have it, or plain, see `wording`.
        seed: of the choice of prompts and of the resampling.

    Raises:
        ConfigError: there is no such tokenizer, or it needs Java, which is missing.
        DataError: no object can be asked about.

    Source: LocVLM, CVPR 2024, region description; the splits are RefCOCO testB, RefCOCO+ testB,
    and RefCOCOg val and test (UMD).
    """

    name = "region_description"
    version = "1"

    def __init__(
        self,
        source: Expressions,
        prompts: Sequence[str],
        tokenizer: Tokenizer = "ptb",
        seed: int = 0,
    ):
        check_tokenizer(tokenizer)
        self.prompts = list(prompts)
        self.tokenizer = tokenizer
        self.seed = seed
        self.files = list(source.sources)
        self.split = getattr(source, "split", None) or Path(self.files[0]).stem
        objects, left_out = referred(source)
        self.asked = to_questions(
            self.name, self._entries(objects), source=self.files[0], images=source.images
        )
        self.left_out = {**left_out, **self.asked.left_out}

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "asks": "each referred object, by its box",
            "prompts": self.prompts,
            "references": "all its expressions, equal ones once",
            "rule": "without 'There is', the article and the final stop; raw: as it stands",
            **wording_protocol(self.tokenizer),
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """One for each object."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by the id of their object, image/number."""
        return read_answers(file, ("id",), ("text", "answer"))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """METEOR and CIDEr-D of the bare answers, then of the raw ones."""
        raw = [answer.text for answer in answers]
        references = [answer.question.meta["references"] for answer in answers]
        bare, whole = wording([[*map(bare_description, raw)], raw], references, self.tokenizer)
        images = [answer.question.sample.key for answer in answers]
        row = Row(self.name, "Region description", self.split, images, self.seed)
        columns = [*worded_columns(bare), *worded_columns(whole, "_raw", ", raw")]
        items = [
            worded_item(answer, near, "What is here?", (_mark(answer),))
            for answer, near in zip(answers, bare.near, strict=True)
        ]
        counts = {"images": len(set(images)), **self.left_out}
        return Score(row.metrics(*columns), items, counts)

    def figures(self, score: Score) -> Mapping[str, float]:
        """As pycocoevalcap prints them: METEOR is a fraction, CIDEr a number up to 10."""
        return score.values

    def _entries(self, objects: Sequence[Referred]) -> Iterator[Entry]:
        for one in objects:
            prompt = seeded(self.seed, one.id).choice(self.prompts)
            meta = {"box": list(one.box), "references": list(one.expressions)}
            yield Entry(one.id, one.image, fill(prompt, location=one.box), meta)


def _mark(answer: Answer) -> Mark:
    meta = answer.question.meta
    return Mark("asked", Box(*meta["box"]), meta["references"][0])
