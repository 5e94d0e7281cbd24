"""Tables of a results file: as plain rows, as Markdown, for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from locvlm.report.sheet import csv_text, markdown_cell, markdown_table

Metric = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Table:
    """Metrics of one table, by row and column.

    Args:
        title: of the table.
        columns: titles, in the order of the results.
        rows: titles, likewise.
        cells: the metric at (row, column); not every pair has one.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Mapping[tuple[str, str], Metric]

    def cell(self, row: str, column: str) -> Metric | None:
        """The metric there, if there is one."""
        return self.cells.get((row, column))

    def direction(self, column: str) -> str:
        """Whether "higher" or "lower" values of a column are better; empty where neither is."""
        found = {
            cell["better"] for (_, of_column), cell in self.cells.items() if of_column == column
        }
        return found.pop() if len(found) == 1 else ""

    def n(self, row: str) -> int:
        """Items of a row: the most that one of its metrics counts."""
        return max(cell["n"] for (of_row, _), cell in self.cells.items() if of_row == row)


def tables(metrics: Sequence[Metric]) -> list[Table]:
    """The tables of a results file's metrics, everything in its order there."""
    grouped: dict[str, list[Metric]] = {}
    for metric in metrics:
        grouped.setdefault(metric["table"], []).append(metric)
    return [
        Table(
            title,
            list(dict.fromkeys(metric["column"] for metric in members)),
            list(dict.fromkeys(metric["row"] for metric in members)),
            {(metric["row"], metric["column"]): metric for metric in members},
        )
        for title, members in grouped.items()
    ]


def percent(value: float | None) -> str:
    """A fraction as a percentage with one decimal; a dash where nothing was counted."""
    return "–" if value is None else f"{100 * value:.1f}"


def interval(metric: Metric) -> str:
    """The confidence interval in percent, such as "81.0 to 87.5"."""
    if metric["low"] is None:
        return ""
    return f"{percent(metric['low'])} to {percent(metric['high'])}"


def cell_text(metric: Metric | None) -> str:
    """Value and interval in one line: "84.2 (81.0 to 87.5)"."""
    if metric is None:
        return ""
    span = interval(metric)
    return f"{percent(metric['value'])} ({span})" if span else percent(metric["value"])


def table_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: name, one cell per metric, n."""
    rows = [[row, *map(cell_text, _cells(table, row)), f"{table.n(row):,}"] for row in table.rows]
    return ["", *table.columns, "n"], rows


def value_rows(table: Table) -> tuple[list[str], list[list[str]]]:
    """As `table_rows`, without intervals: narrow enough for a terminal."""
    rows = [
        [
            row,
            *("" if cell is None else percent(cell["value"]) for cell in _cells(table, row)),
            f"{table.n(row):,}",
        ]
        for row in table.rows
    ]
    return ["", *table.columns, "n"], rows


def headline_rows(metrics: Sequence[Metric]) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of the few numbers that sum up a run, with their intervals."""
    rows = [
        [metric["headline"], percent(metric["value"]), interval(metric), f"{metric['n']:,}"]
        for metric in metrics
        if metric["headline"]
    ]
    return ["", "value", "95 % interval", "n"], rows


def markdown(results: Mapping[str, Any]) -> str:
    """All tables in Markdown, under the title of the run."""
    lines = [f"# {markdown_cell(results['title'])}", "", markdown_cell(results["summary"]), ""]
    for note in results.get("notes", ()):
        lines += [f"**Note:** {markdown_cell(note)}", ""]
    for table in tables(results["metrics"]):
        lines += [f"## {markdown_cell(table.title)}", "", markdown_table(*table_rows(table)), ""]
    lines += ["Percent, with 95 % bootstrap intervals over images.", ""]
    return "\n".join(lines)


def metrics_csv(results: Mapping[str, Any]) -> str:
    """All metrics, one on a line, as fractions."""
    titles = ["key", "table", "row", "column", "value", "low", "high", "n", "better", "chance"]
    return csv_text(
        titles, ([metric.get(name) for name in titles] for metric in results["metrics"])
    )


def _cells(table: Table, row: str) -> list[Metric | None]:
    return [table.cell(row, column) for column in table.columns]
