"""Rows of the tables that benchmarks come as, separated by commas or tabs."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from locvlm.errors import DataError
from locvlm.io import cannot_read


def read_rows(
    file: str | Path, columns: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, row) of each row below the header; line ends of Windows are taken as well.

    Args:
        file: in UTF-8; its name may say what it likes.
        columns: that must be there; others come along.
        delimiter: between the cells.

    Raises:
        DataError: the file is missing or no such table, or a row has too few or too many cells.
    """
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter=delimiter, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"there is no column {', '.join(missing)}; the columns are "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}",
                    where=f"{file}, line 1",
                    fix=f"give a table with {', '.join(columns)}",
                )
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise DataError(
                        "this row has another number of cells than the header", where=where
                    )
                yield where, row
    except OSError as error:
        raise cannot_read(file, error) from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"this is no table of text: {error}", where=str(file)) from error
