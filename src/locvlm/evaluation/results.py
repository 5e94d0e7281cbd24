"""What an evaluation finds: metrics with intervals, and every question with its outcome."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, NamedTuple, TypeAlias

from locvlm.evaluation.bootstrap import Estimate, Pooled, Ratio, estimate
from locvlm.types import Location

FORMAT = 1


Better: TypeAlias = Literal["higher", "lower", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a report.

    Args:
        key: names it in the results file, such as `localization.category.acc_at_0_5`.
        estimate: value, interval, count.
        table: title of the table that it stands in.
        row: of that table.
        column: of that table.
        better: whether higher or lower values are better; empty where neither is.
        headline: what it is called among the few numbers that sum up a run; empty: not there.
        chance: what guessing would reach, where that is known.
    """

    key: str
    estimate: Estimate
    table: str
    row: str
    column: str
    better: Better = "higher"
    headline: str = ""
    chance: float | None = None


class Column(NamedTuple):
    """One metric of a row, before its interval is known; names as in `Metric`."""

    key: str
    title: str
    ratio: Ratio | Pooled
    better: Better = "higher"
    headline: str = ""
    chance: float | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """A location to draw.

    Args:
        role: true, predicted, or given in the question.
        location: in pixels of the original image.
        label: a few words beside it.
    """

    role: Literal["true", "predicted", "asked"]
    location: Location
    label: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One question with what came of it.

    Args:
        key: the question's.
        group: title of its gallery in the report; empty: it is in none.
        image: key of its sample.
        question: as the model was asked; locations in pixels.
        answer: as the model said it.
        wanted: the right answer, in words.
        outcome: a word or two, the same for alike cases, such as "other object".
        score: 1 is right, 0 is wrong, or a value between.
        marks: what to draw on the image.
        said: the answer as it was judged, where it is one of few, such as "yes"; the report counts
            it against `wanted`. Empty: it is free text, or answers a question of diagnostics.
        confidence: the share of the likelihood that the answer of a closed question has among its
            candidates; None for others, and where `said` is empty.
    """

    key: str
    group: str
    image: str
    question: str
    answer: str
    wanted: str
    outcome: str
    score: float
    marks: tuple[Mark, ...] = ()
    said: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values 0 to 1 occur, in equal bins; 1 itself counts in the last.

    Args:
        table: title of the table that it stands below.
        title: what is counted, in a sentence.
        counts: of each bin, from 0 up.
        threshold: values from here on are good.
    """

    table: str
    title: str
    counts: tuple[int, ...]
    threshold: float


@dataclass(frozen=True, slots=True)
class Score:
    """What one part of a benchmark found.

    Args:
        metrics: in the order in which they are shown.
        items: every question, in the order of the benchmark.
        counts: of questions and of what was left out, by a short description.
        histograms: beside the metrics.
    """

    metrics: Sequence[Metric]
    items: Sequence[Item]
    counts: Mapping[str, int] = field(default_factory=dict)
    histograms: Sequence[Histogram] = ()

    @property
    def values(self) -> dict[str, float]:
        """The metrics by their keys, without the benchmark's name in front."""
        return {metric.key.partition(".")[2]: metric.estimate.value for metric in self.metrics}


class Submission(NamedTuple):
    """A file of answers for a benchmark's own program or test server.

    Args:
        name: of the file; it goes beside results.json.
        text: its contents.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: metrics over the same items.

    Args:
        key: comes before the keys of its metrics.
        table: title of the table.
        title: of the row.
        clusters: (K,) the image of each item; images are resampled whole.
        seed: of the resampling.
    """

    key: str
    table: str
    title: str
    clusters: Sequence[Hashable]
    seed: int = 0

    def metrics(self, *columns: Column) -> list[Metric]:
        """Each column with its interval."""
        return [
            Metric(
                f"{self.key}.{column.key}",
                estimate(column.ratio, self.clusters, seed=self.seed),
                self.table,
                self.title,
                column.title,
                column.better,
                column.headline,
                column.chance,
            )
            for column in columns
        ]


def metric_record(metric: Metric) -> dict[str, Any]:
    """A metric as plain data; NaN becomes None, which JSON knows."""
    record = asdict(metric)
    estimate = record.pop("estimate")
    numbers = {name: value if isfinite(value) else None for name, value in estimate.items()}
    return record | numbers


def item_record(item: Item) -> dict[str, Any]:
    """An item as plain data."""
    # `asdict` copies every value deeply, eight times as slow; only marks hold more than values.
    record = {name: getattr(item, name) for name in Item.__slots__}
    return record | {"marks": [asdict(mark) for mark in item.marks]}
