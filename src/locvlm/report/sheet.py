"""Text in cells: Markdown and CSV that no model's words can break or turn into a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*_\[\]<>|#~$])")
# What a spreadsheet reads as a formula, and what it strips before it looks.
_FORMULA = ("=", "+", "-", "@", "\t", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def markdown_cell(text: str) -> str:
    r"""Text for one line of Markdown that shows as it is.

    >>> markdown_cell("a|b <i>")
    'a\\|b \\<i\\>'
    """
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], n_left: int = 1) -> str:
    """A table in Markdown.

    Args:
        titles: of the columns.
        rows: cells as plain text.
        n_left: columns that are set to the left, as words are; the others hold numbers.
    """
    rule = ["---"] * n_left + ["---:"] * (len(titles) - n_left)
    lines = [_line(map(markdown_cell, titles)), _line(rule)]
    return "\n".join([*lines, *(_line(map(markdown_cell, row)) for row in rows)])


def csv_text(titles: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> str:
    """A CSV file; None is an empty cell, and text that a spreadsheet would run begins with '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (titles, *rows))
    return out.getvalue()


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: str | float | None) -> str | float:
    if isinstance(value, str):
        lines = value.replace("\r\n", "\n").replace("\r", "\n")  # csv does not quote a lone \r
        return f"'{lines}" if lines.startswith(_FORMULA) and not _is_number(lines) else lines
    return "" if value is None else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
