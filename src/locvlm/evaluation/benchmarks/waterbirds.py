"""Waterbirds: is it the bird that a model sees, or what is behind it?"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import Given, read_answers
from locvlm.evaluation.benchmarks.asking import Read, spoken
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.evaluation.benchmarks.rows import read_rows
from locvlm.evaluation.bootstrap import Pooled, Ratio, estimate, ratio
from locvlm.evaluation.judges import strict_side
from locvlm.evaluation.results import Column, Item, Metric, Row, Score
from locvlm.predictors.ask import Answer
from locvlm.types import Question

Split: TypeAlias = Literal["train", "val", "test"]
BIRDS = ("landbird", "waterbird")  # by the number in the file: y
PLACES = ("land", "water")  # place
USUAL = dict(zip(BIRDS, PLACES, strict=True))
_LOOSE = re.compile(r"\b(land|water)[\s-]*birds?\b", re.IGNORECASE)


class Waterbirds:
    """Land birds and water birds, each on land and on water.

    Accuracy of the four groups, the worst of them, and what the unusual background costs each bird.

    Args:
        metadata: metadata.csv: img_id, img_filename, y, split, place.
        images: folder that the file names start from; None for scoring recorded answers.
        split: train, val or test.
        prompt: the question.
        closed: compare the likelihoods of "landbird" and "waterbird"; false lets the model speak.
        seed: of the resampling.

    Raises:
        DataError: the file is missing or no such table, or its images are missing.
        ConfigError: there is no such split.

    Source: Sagawa et al., Distributionally Robust Neural Networks, ICLR 2020.
    """

    name = "waterbirds"
    version = "1"

    def __init__(
        self,
        metadata: str | Path,
        images: str | Path | None = None,
        *,
        split: Split = "test",
        prompt: str,
        closed: bool = True,
        seed: int = 0,
    ):
        if split not in get_args(Split):
            raise ConfigError(
                f"there is no split {split!r}",
                where="benchmark.split",
                fix=f"choose from {', '.join(get_args(Split))}",
            )
        self.files = [str(metadata)]
        self.split = split
        self.prompt = prompt
        self.closed = closed
        self.seed = seed
        (file,) = self.files
        entries = list(_entries(file, split, prompt, BIRDS if closed else ()))
        if not entries:
            raise DataError(f"there is no image of the split {split}", where=file)
        self.asked = to_questions(self.name, entries, source=file, images=images)

    @property
    def protocol(self) -> Mapping[str, Any]:
        """What a stranger needs to repeat it."""
        return {
            "split": self.split,
            "prompt": self.prompt,
            "answers": "the likelier of landbird and waterbird" if self.closed else "free",
            "judge": "the one bird that the answer names, as a word; neither or both is wrong",
            "seed": self.seed,
        }

    def questions(self) -> list[Question]:
        """In the order of the file."""
        return self.asked.questions

    def read_answers(self, file: str | Path) -> Given:
        """Answers by img_id, or by question_id."""
        return read_answers(file, ("img_id", "question_id"), ("text", "answer", "prediction"))

    def score(self, answers: Sequence[Answer], read: Read) -> Score:
        """Accuracy by bird and background, deltas, the worst group, and accuracy over all."""
        named = [named_bird(answer.text) for answer in answers]
        birds = np.array([answer.question.meta["bird"] for answer in answers])
        places = np.array([answer.question.meta["place"] for answer in answers])
        right = np.array(named, dtype=object) == birds
        images = [answer.question.sample.key for answer in answers]
        metrics: list[Metric] = []
        groups: list[Column] = []
        for bird in reversed(BIRDS):
            row = Row(self.name, "Waterbirds", bird, images, self.seed)
            on = {place: (birds == bird) & (places == place) for place in reversed(PLACES)}
            columns = [
                Column(f"{bird}_on_{place}", f"On {place}", ratio(right, there))
                for place, there in on.items()
            ]
            metrics += row.metrics(*columns)
            metrics.append(_delta(row, bird, right, on))
            groups += columns
        metrics += self._overall(right, [name is None for name in named], groups, images)
        items = [_item(answer, bird) for answer, bird in zip(answers, named, strict=True)]
        return Score(metrics, items, {"images": len(set(images)), **self.asked.left_out})

    def figures(self, score: Score) -> Mapping[str, float]:
        """Fractions."""
        return score.values

    def _overall(
        self,
        right: NDArray[np.bool_],
        unclear: Sequence[bool],
        groups: Sequence[Column],
        images: Sequence[str],
    ) -> list[Metric]:
        row = Row(self.name, "Waterbirds", "all", images, self.seed)
        counted = [column.ratio for column in groups if column.ratio.n]
        worst = min(counted, key=_value, default=ratio([False] * len(images), [0] * len(images)))
        return row.metrics(
            Column("accuracy", "Accuracy", ratio(right), headline="Waterbirds accuracy"),
            Column("worst_group", "Worst group", worst, headline="Waterbirds worst group"),
            Column("parse_failures", "Neither", ratio(unclear), "lower"),
        )


def named_bird(text: str) -> str | None:
    """The bird that an answer names, landbird or waterbird; None if it names none or both.

    >>> named_bird("Two water birds."), named_bird("a landbird, not a waterbird")
    ('waterbird', None)
    """
    return strict_side(_LOOSE.sub(lambda match: f"{match[1]}bird", text), BIRDS)


def _delta(
    row: Row, bird: str, right: NDArray[np.bool_], on: Mapping[str, NDArray[np.bool_]]
) -> Metric:
    """Accuracy on the unusual background minus that on the usual one: -0.3 is 30 points lost."""
    usual = on[USUAL[bird]]
    unusual = next(there for place, there in on.items() if place != USUAL[bird])
    counted = usual | unusual
    both = np.stack([right & unusual, unusual, right & usual, usual], axis=-1).astype(float)
    of = Pooled(both[counted], _difference)
    images = [image for image, there in zip(row.clusters, counted, strict=True) if there]
    return Metric(
        f"{row.key}.{bird}_delta",
        estimate(of, images, seed=row.seed),
        row.table,
        row.title,
        "Delta",
    )


def _difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where one of the two has no items."""
    with np.errstate(invalid="ignore"):
        found: NDArray[np.float64] = sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]
    return found


def _value(of: Ratio | Pooled) -> float:
    return of.value


def _entries(file: str, split: Split, prompt: str, candidates: tuple[str, ...]) -> Iterator[Entry]:
    columns = ("img_id", "img_filename", "y", "split", "place")
    for where, row in read_rows(file, columns):
        bird = _chosen(row, "y", BIRDS, where)
        place = _chosen(row, "place", PLACES, where)
        if _chosen(row, "split", get_args(Split), where) == split:
            meta = {"bird": bird, "place": place}
            yield Entry(row["img_id"], row["img_filename"], (prompt,), meta, candidates=candidates)


def _chosen(row: Mapping[str, str], name: str, values: Sequence[str], where: str) -> str:
    number = row[name].strip()
    if number in map(str, range(len(values))):
        return values[int(number)]
    raise DataError(f"{name} is {number[:20]!r}, not 0 to {len(values) - 1}", where=where)


def _item(answer: Answer, named: str | None) -> Item:
    meta = answer.question.meta
    right = named == meta["bird"]
    return Item(
        key=answer.question.key,
        group=f"A {meta['bird']} on {meta['place']}",
        image=answer.question.sample.key,
        question=spoken(answer.question.messages[-1].parts),
        answer=answer.text,
        wanted=meta["bird"],
        outcome="right" if right else "neither" if named is None else "other bird",
        score=float(right),
        said=named or "neither",
    )
