"""Tables that compare runs: a row for each, and everything said that keeps rows apart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from string import ascii_lowercase
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from locvlm.report.runs import Measured, differences

if TYPE_CHECKING:
    from locvlm.evaluation.paired import Paired

Metric = Mapping[str, Any]
Kind: TypeAlias = Literal["measured", "published"]
MOST = 8  # metrics that one table shows; of more only those that sum up a run
BETTER, WORSE = "▲", "▼"


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a table.

    Args:
        metric: value, low, high and n, as in results.json; low and high are None where published.
        verdict: `BETTER` or `WORSE` than the reference, where chance hardly explains it.
        note: letter of the note that says why it does not compare with the others.
    """

    metric: Metric
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row: of a run, or of a published model.

    Args:
        name: of either.
        kind: measured here, or published elsewhere.
        cells: one for each column; None where there is no number.
        setting: under which it was measured, such as "zero-shot".
        note: letter of the note that holds for all its cells.
        is_reference: whether the others are tested against it.
    """

    name: str
    kind: Kind
    cells: Sequence[Cell | None]
    setting: str = ""
    note: str = ""
    is_reference: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Args:
        title: unique in its table.
        key: of its metric; empty where none of ours is it.
        better: higher, lower, or empty.
    """

    title: str
    key: str = ""
    better: str = "higher"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A table of runs.

    Args:
        title: of the table.
        benchmark: whose runs stand in it; those of a published table may have several.
        columns: what was measured.
        lines: rows in their order.
        notes: what must be known beside it, in sentences; lettered ones begin with their letter.
        source: where its published rows are from; empty: it has none.
        setting: title of the column of settings; empty: there is none.
        reference: name of the run that the others were tested against.
        paired: by name of the run, by part of the benchmark: the run against the reference.
        details: the other way round, a table for each of the benchmark's own: a column for each
            run, a row for each metric.
    """

    title: str
    benchmark: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    notes: Sequence[str] = ()
    source: str = ""
    setting: str = ""
    reference: str = ""
    paired: Mapping[str, Mapping[str, "Paired"]] = field(default_factory=dict)
    details: "Sequence[Comparison]" = ()


@dataclass(slots=True)
class Notes:
    """Notes with letters; equal ones share a letter."""

    texts: dict[str, str] = field(default_factory=dict)

    def letter(self, text: str) -> str:
        """The letter of a note, which is added if it is new; empty for no text."""
        if not text:
            return ""
        return self.texts.setdefault(text, _letters(len(self.texts)))

    @property
    def lines(self) -> list[str]:
        """Each note after its letter."""
        return [f"{letter}: {text}" for text, letter in self.texts.items()]


def groups(runs: Sequence[Measured]) -> list[list[Measured]]:
    """Runs that asked the same questions of the same benchmark, in the order of the first ones."""
    found: dict[tuple[str, tuple[str, ...]], list[Measured]] = {}
    for run in runs:
        found.setdefault((run.benchmark, run.data), []).append(run)
    ordered = dict.fromkeys(run.benchmark for run in runs)
    return [group for name in ordered for (of, _), group in found.items() if of == name]


def benchmark_table(
    group: Sequence[Measured],
    *,
    reference: Measured | None = None,
    paired: Mapping[str, Mapping[str, "Paired"]] = MappingProxyType({}),
    other: Measured | None = None,
) -> Comparison:
    """The table of runs that asked the same questions; runs of another protocol are marked.

    Args:
        group: the runs.
        reference: what the others are compared with; None takes the protocol of most runs.
        paired: by name of the run, by part of the benchmark: the run against `reference`.
        other: a run of the same benchmark about other questions, for the note that says so.
    """
    norm = reference or _typical(group)
    metrics = _metrics(group)
    columns = _columns(metrics)
    notes = Notes()

    def cell(run: Measured, key: str) -> Cell | None:
        return _cell(run, key, reference, paired.get(run.name, {}))

    lines = [
        Line(
            run.name,
            "measured",
            [cell(run, column.key) for column in columns],
            note=notes.letter("; ".join(differences(run, norm))),
            is_reference=run is reference,
        )
        for run in group
    ]
    title = group[0].benchmark
    said = [f"{note} as in {norm.name}" for note in notes.lines]
    if other is not None:
        title = f"{title}, {_data_name(group[0])}"
        apart = "; ".join(differences(group[0], other))
        said.insert(0, f"Other questions than in the table of {_data_name(other)}: {apart}")
    said += _unshared(paired, norm.name)
    return Comparison(
        title,
        group[0].benchmark,
        columns,
        lines,
        said,
        reference=reference.name if reference else "",
        paired=paired,
        details=_details(group, metrics, cell),
    )


def find(run: Measured, key: str) -> Metric | None:
    """The metric of that key, if the run has it."""
    return next((metric for metric in run.metrics if metric["key"] == key), None)


def is_mean_score(metrics: Sequence[Metric | None], paired: "Paired") -> bool:
    """Whether a metric of runs A and B is their mean score of the questions that were compared."""
    return all(
        metric is not None
        and metric["value"] is not None
        and (metric["n"], metric["better"]) == (whole.n, "higher")
        and isclose(metric["value"], whole.value, abs_tol=1e-9)
        for metric, whole in zip(metrics, (paired.whole_a, paired.whole_b), strict=True)
    )


def _cell(
    run: Measured, key: str, reference: Measured | None, paired: Mapping[str, "Paired"]
) -> Cell | None:
    metric = find(run, key)
    if metric is None:
        return None
    if reference is None:
        return Cell(metric)
    both = metric, find(reference, key)
    sure = [one for one in paired.values() if one.is_significant and is_mean_score(both, one)]
    if not sure:
        return Cell(metric)
    return Cell(metric, BETTER if sure[0].difference.value > 0 else WORSE)


def _details(
    group: Sequence[Measured],
    metrics: Sequence[Metric],
    cell: Callable[[Measured, str], Cell | None],
) -> list[Comparison]:
    """All metrics of the runs, by the table that they stand in."""
    return [
        Comparison(
            name,
            group[0].benchmark,
            [Column(run.name) for run in group],
            [
                Line(title, "measured", [cell(run, key) for run in group])
                for key, title in _titles(members).items()
            ],
        )
        for name, members in _by_table(metrics).items()
    ]


def _metrics(group: Sequence[Measured]) -> list[Metric]:
    """One of each key, in the order of the first run that has it."""
    found: dict[str, Metric] = {}
    for run in group:
        for metric in run.metrics:
            found.setdefault(metric["key"], metric)
    return list(found.values())


def _by_table(metrics: Sequence[Metric]) -> dict[str, list[Metric]]:
    found: dict[str, list[Metric]] = {}
    for metric in metrics:
        found.setdefault(metric["table"], []).append(metric)
    return found


def _columns(metrics: Sequence[Metric]) -> list[Column]:
    """All metrics where they are few, else their headlines."""
    headlines = [metric for metric in metrics if metric["headline"]]
    if len(metrics) > MOST and headlines:
        return [Column(one["headline"], one["key"], one["better"]) for one in headlines]
    titles = _titles(metrics[:MOST])
    return [Column(titles[one["key"]], one["key"], one["better"]) for one in metrics[:MOST]]


def _titles(metrics: Sequence[Metric]) -> dict[str, str]:
    """What metrics are called, by key: their column, with their row where columns repeat."""
    columns = [metric["column"] for metric in metrics]
    return {
        one["key"]: one["column"]
        if columns.count(one["column"]) == 1
        else f"{one['row']}: {one['column']}"
        for one in metrics
    }


def _unshared(paired: Mapping[str, Mapping[str, "Paired"]], reference: str) -> list[str]:
    """The questions that were left out of a test, counted, the first one named."""
    return [
        f"Left out of the test: {len(keys):,} {what}, such as {keys[0]}"
        for name, parts in paired.items()
        for whole in list(parts.values())[:1]
        for keys, what in (
            (whole.only_a, f"that {name} has and {reference} has not"),
            (whole.only_b, f"that {reference} has and {name} has not"),
            (whole.unlike, f"with another right answer in {name} than in {reference}"),
        )
        if keys
    ]


def _typical(group: Sequence[Measured]) -> Measured:
    """The first run of those that differ from the fewest others."""
    return min(group, key=lambda run: sum(bool(differences(run, other)) for other in group))


def _data_name(run: Measured) -> str:
    files = [key for key in run.results["data"] if key not in ("sha256", "images")]
    return " and ".join(Path(file).stem for file in files) or run.data[0][:12]


def _letters(n: int) -> str:
    """a, b, ..., z, then aa, bb, ..."""
    return ascii_lowercase[n % 26] * (1 + n // 26)
