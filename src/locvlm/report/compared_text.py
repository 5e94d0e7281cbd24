"""Comparisons as text: for the terminal, as Markdown, as CSV."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from locvlm.report.compared import BETTER, WORSE, Cell, Comparison, Line
from locvlm.report.sheet import csv_text, markdown_cell, markdown_table
from locvlm.report.tables import interval, percent

if TYPE_CHECKING:
    from locvlm.evaluation.paired import Paired

Rows: TypeAlias = tuple[list[str], list[list[str]]]
CsvRow: TypeAlias = list[str | float | None]
ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}
VERDICTS = (
    f"{BETTER} {WORSE}: better or worse than the reference on the same questions, p < 0.05 by "
    "resampled images; numbers that are no mean score of questions are not tested."
)
PERCENT = "Percent, with 95 % bootstrap intervals over images."


def value_text(cell: Cell | None) -> str:
    """The number as it is shown, with its verdict and the letter of its note."""
    if cell is None:
        return ""
    text = str(cell.metric.get("printed") or percent(cell.metric["value"]))
    marks = f" {cell.verdict}" if cell.verdict else ""
    return f"{text}{marks}{f' [{cell.note}]' if cell.note else ''}"


def name_text(line: Line) -> str:
    """The name of a row, with the letter of its note."""
    return f"{line.name} [{line.note}]" if line.note else line.name


def rows(table: Comparison, *, between: str = "\n") -> Rows:
    """Column titles and rows of text: name, kind, setting where there is one, numbers, n.

    Args:
        table: to write.
        between: a number and its interval.
    """
    kinds = [table.setting] if table.setting else []
    titles = ["", "", *kinds, *(f"{c.title}{ARROWS[c.better]}" for c in table.columns), "n"]
    body = []
    for line in table.lines:
        setting = [line.setting] if table.setting else []
        cells = [_with_interval(cell, between) for cell in line.cells]
        body.append([name_text(line), kind_text(line), *setting, *cells, n_text(line)])
    return titles, body


def kind_text(line: Line) -> str:
    """Whether it was measured or published, or is what others were tested against."""
    return "reference" if line.is_reference else line.kind


def n_text(line: Line) -> str:
    """The most items that one of its numbers counts."""
    counts = [cell.metric["n"] for cell in line.cells if cell and cell.metric["n"] is not None]
    return f"{max(counts):,}" if counts else ""


def paired_rows(table: Comparison) -> Rows:
    """Column titles and rows of the tests, one for each run and part of the benchmark."""
    titles = [
        *("", "part", "questions", "mean", "reference", "difference", "95 % interval", "p"),
        *("McNemar p", "both right", "only it right", "only reference right", "both wrong"),
    ]
    body = [
        [name, part, *_paired_cells(one)]
        for name, parts in table.paired.items()
        for part, one in parts.items()
    ]
    return titles, body


def markdown(tables: Sequence[Comparison], title: str) -> str:
    """All tables in Markdown, each with its notes."""
    lines = [f"# {markdown_cell(title)}", ""]
    for table in tables:
        n_left = 3 if table.setting else 2
        lines += [f"## {markdown_cell(table.title)}", ""]
        lines += [markdown_table(*rows(table, between=" "), n_left=n_left), ""]
        if table.paired:
            lines += [f"Against {markdown_cell(table.reference)}:", ""]
            lines += [markdown_table(*paired_rows(table), n_left=2), ""]
        lines += [f"- {markdown_cell(note)}" for note in notes(table)]
        lines += [""]
    return "\n".join([*lines, PERCENT, ""])


def notes(table: Comparison) -> list[str]:
    """What stands below a table: where it is from, then its notes."""
    source = [f"Published: {table.source}."] if table.source else []
    tested = [VERDICTS] if table.paired else []
    return [*source, *table.notes, *tested]


def csv_of(tables: Sequence[Comparison]) -> str:
    """One line for each number, also those that the tables have no room for; fractions."""
    titles = [
        *("table", "benchmark", "name", "kind", "setting", "metric", "key"),
        *("value", "low", "high", "n", "verdict", "note"),
    ]
    rows = (row for table in tables for row in (_all_rows if table.details else _rows)(table))
    return csv_text(titles, rows)


def _rows(table: Comparison) -> Iterator[CsvRow]:
    """The cells of a table with published rows."""
    texts = _by_letter(table)
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells, strict=True):
            if cell is not None:
                note = table.source if line.kind == "published" else texts.get(cell.note, "")
                names = [table.title, "", line.name, line.kind, line.setting, column.title]
                yield [*names, *_csv_cells(cell, column.key, note)]


def _all_rows(table: Comparison) -> Iterator[CsvRow]:
    """All metrics of a table's runs."""
    texts = _by_letter(table)
    note_of = {line.name: texts.get(line.note, "") for line in table.lines}
    for detail in table.details:
        for line in detail.lines:
            for column, cell in zip(detail.columns, line.cells, strict=True):
                if cell is not None:
                    run, title = column.title, f"{detail.title}: {line.name}"
                    names = [table.title, table.benchmark, run, "measured", "", title]
                    yield [*names, *_csv_cells(cell, cell.metric["key"], note_of[run])]


def _csv_cells(cell: Cell, key: str, note: str) -> CsvRow:
    metric = cell.metric
    return [key, *(metric[name] for name in ("value", "low", "high", "n")), cell.verdict, note]


def _by_letter(table: Comparison) -> dict[str, str]:
    """Notes by their letter."""
    return dict(note.split(": ", 1) for note in table.notes if ": " in note)


def _with_interval(cell: Cell | None, between: str) -> str:
    text = value_text(cell)
    span = interval(cell.metric) if cell else ""
    return f"{text}{between}({span})" if span else text


def _paired_cells(paired: "Paired") -> list[str]:
    apart = paired.difference
    return [
        f"{apart.n:,}",
        percent(paired.a),
        percent(paired.b),
        signed(apart.value),
        f"{signed(apart.low)} to {signed(apart.high)}",
        f"{paired.p:.3f}",
        "" if paired.p_mcnemar is None else f"{paired.p_mcnemar:.2g}",
        *(f"{count:,}" for count in paired.outcomes.values()),
    ]


def signed(value: float) -> str:
    """A difference in points of percent, with its sign; a true minus."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")
