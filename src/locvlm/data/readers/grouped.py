"""Annotations by image, on disk: a file lists them in any order, and memory may not hold them."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import groupby
from operator import itemgetter
from typing import Any

from locvlm.data.readers.fields import Id
from locvlm.errors import DataError

_CACHE = 32_000  # kB; what is more lies in a temporary file that has no name


@contextmanager
def grouped(rows: Iterable[tuple[Id, Any]]) -> Iterator["Grouped"]:
    """Gives records back by the image that they belong to, in their order.

    They lie in SQLite's nameless temporary database, which goes away with the process at the
    latest; it is made in TMPDIR.

    Args:
        rows: (image id, record of JSON values); read in a stream.

    Raises:
        DataError: the disk has no room for them.
    """
    try:
        with closing(sqlite3.connect("")) as database:
            database.execute(f"PRAGMA cache_size = -{_CACHE}")
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("CREATE TABLE record (image TEXT, value TEXT)")
            database.executemany(
                "INSERT INTO record VALUES (?, ?)",
                ((json.dumps(image), json.dumps(value)) for image, value in rows),
            )
            database.execute("CREATE INDEX by_image ON record (image)")
            yield Grouped(database)
    except sqlite3.Error as error:
        raise DataError(
            f"annotations cannot be kept in a temporary file: {error}",
            fix="let TMPDIR name a folder with as much room as the file of annotations takes",
        ) from error


class Grouped:
    """Records by image; made by `grouped`."""

    def __init__(self, database: sqlite3.Connection):
        self._database = database

    def __getitem__(self, image: Id) -> list[Any]:
        """The records of an image; empty where it has none."""
        rows = self._database.execute(
            "SELECT value FROM record WHERE image = ? ORDER BY rowid", [json.dumps(image)]
        )
        return [json.loads(value) for (value,) in rows]

    def groups(self) -> Iterator[list[Any]]:
        """The records of each image that has any."""
        rows = self._database.execute("SELECT image, value FROM record ORDER BY image, rowid")
        for _, group in groupby(rows, itemgetter(0)):
            yield [json.loads(value) for _, value in group]
