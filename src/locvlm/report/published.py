"""Published tables with our own runs beside them, in the order of the paper."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from locvlm.report.compared import Cell, Column, Comparison, Line, Notes, find
from locvlm.report.runs import Measured, differences

# What every table with published rows says below it.
NOTE = (
    "Published rows were measured by others, with their own software, prompts and judges: they are "
    "no runs of these protocols, and have no intervals."
)


@dataclass(frozen=True, slots=True)
class PublishedColumn:
    """A column of a published table, and which number of which run stands in it.

    Args:
        title: of the column.
        benchmark: whose runs; empty where no benchmark of ours measures it.
        metric: key of the number; {setting} in it stands for the word of the row's setting.
        words: which of its runs: all must stand in the names of the run's files, their folder or
            its split.
    """

    title: str
    benchmark: str = ""
    metric: str = ""
    words: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A published row: percent, as printed; None where nothing was published."""

    name: str
    values: Sequence[float | None]
    setting: str = ""


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """A table as it was published.

    Args:
        title: of the table.
        source: where it is from.
        columns: in its order.
        rows: likewise.
        setting: title of the column that tells rows of one model apart; empty: there is none.
        settings: a word for each setting in which our runs measure the same.
    """

    title: str
    source: str
    columns: Sequence[PublishedColumn]
    rows: Sequence[PublishedRow]
    setting: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)


def published_table(node: Mapping[str, Any]) -> PublishedTable:
    """A table from its entry in published.yaml."""
    return PublishedTable(
        **{
            **node,
            "columns": [PublishedColumn(**column) for column in node["columns"]],
            "rows": [PublishedRow(**row) for row in node["rows"]],
        }
    )


def paper_table(table: PublishedTable, runs: Sequence[Measured]) -> Comparison | None:
    """The table with a row for each model that our runs measured; None where there is none.

    Runs of one model stand in one row, whatever benchmarks they are of. Where two runs have the
    same number the model gets a second row, and a number whose protocol is not the first one's in
    its column is marked.
    """
    notes = Notes()
    by_name: dict[str, list[Measured]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    measured = [
        line
        for title, word in (table.settings or {"": ""}).items()
        for own in by_name.values()
        for line in _lines(table, own, title, word, runs, notes)
    ]
    if not measured:
        return None
    published = [
        Line(row.name, "published", [_printed(value) for value in row.values], row.setting)
        for row in table.rows
    ]
    return Comparison(
        table.title,
        "",
        [Column(column.title, column.metric) for column in table.columns],
        [*published, *measured],
        [NOTE, *notes.lines],
        source=table.source,
        setting=table.setting,
    )


def _lines(
    table: PublishedTable,
    own: Sequence[Measured],
    title: str,
    word: str,
    runs: Sequence[Measured],
    notes: Notes,
) -> list[Line]:
    """The rows of one model: as many as there are runs that have the same number."""
    found = [_holders(column, own, word) for column in table.columns]
    firsts = [_holders(column, runs, word)[:1] for column in table.columns]
    return [
        Line(
            own[0].name,
            "measured",
            [
                _measured(column, holders[n], first[0], word, notes) if n < len(holders) else None
                for column, holders, first in zip(table.columns, found, firsts, strict=True)
            ],
            title,
        )
        for n in range(max(map(len, found)))
    ]


def _holders(column: PublishedColumn, runs: Sequence[Measured], word: str) -> list[Measured]:
    """The runs that have the number of a column."""
    return [
        run
        for run in runs
        if run.benchmark == column.benchmark
        and set(column.words) <= _words(run)
        and find(run, column.metric.replace("{setting}", word)) is not None
    ]


def _words(run: Measured) -> set[str]:
    """What the run's files, their folder and its split are called, in words."""
    names = [name for file in run.results["data"] for name in Path(file).parts[-2:]]
    split = str(run.results["protocol"].get("split", ""))
    return {word for name in (*names, split) for word in re.split(r"[\s_.()-]+", name)}


def _measured(
    column: PublishedColumn, run: Measured, first: Measured, word: str, notes: Notes
) -> Cell:
    metric = find(run, column.metric.replace("{setting}", word)) or {}
    return Cell(metric, note=notes.letter("; ".join(differences(run, first))))


def _printed(value: float | None) -> Cell | None:
    if value is None:
        return None
    share = round(value / 100, 6)
    return Cell({"value": share, "low": None, "high": None, "n": None, "printed": f"{value:g}"})
