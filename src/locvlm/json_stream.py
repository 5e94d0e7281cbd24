"""Reads JSON files of gigabytes item by item: memory holds one item, not the file.

Python's own decoder works on a window of the file, so values and refusals are those of
`io.read_json`: NaN is a number, a byte order mark is no error, endless nesting is one.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from locvlm.errors import DataError
from locvlm.io import cannot_read

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_WINDOW = 1 << 20  # characters
_MAX_VALUE = 64_000_000  # characters; a missing quote would swallow the rest of the file
# What the decoder says further than this from the window's end, it would say of the whole file.
_LONGEST_TOKEN = len(r"\ud83d\ude00")
_KINDS = {"[": "a list", "{": "an object", '"': "text"}


def iter_json(path: str | Path, prefix: str, *, whole: bool = True) -> Iterator[Any]:
    """The items of a list in a JSON file, one by one.

    Args:
        path: of the file.
        prefix: where the list is: `item` for a file that is a list, `images.item` for the list
            below the key `images`, and so on: `item` stands for each item of a list, any other
            word for the value of that key. Values elsewhere are passed over.
        whole: read the file to its end, so that one that is cut short is noticed; False stops
            behind the list, for a file that was read to its end before.

    Raises:
        DataError: the file is missing or malformed, or has no such list; names line and column.
    """
    with _opened(path) as window:
        yield from _items(window, prefix.split("."), whole)
        if whole:
            window.finish()


def iter_tables(path: str | Path, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """(name, item) of the items of several lists of one object, in the order of the file.

    Args:
        path: of the file; it is read to its end, once for all lists.
        names: keys of the lists.

    Raises:
        DataError: as in `iter_json`.
    """
    missing = dict.fromkeys(names)
    with _opened(path) as window:
        for key in window.members():
            if key not in names:
                window.skip()
                continue
            missing.pop(key, None)
            for _ in window.inside("[", "]"):
                yield key, window.value()
        for name in missing:
            raise window.missing(name)
        window.finish()


@contextmanager
def _opened(path: str | Path) -> Iterator["_Window"]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield _Window(file, str(path))
    except OSError as error:
        raise cannot_read(path, error) from error


def _items(window: "_Window", prefix: Sequence[str], whole: bool) -> Iterator[Any]:
    if not prefix:
        yield window.value()
        return
    name, *rest = prefix
    if name == "item":
        for _ in window.inside("[", "]"):
            yield from _items(window, rest, whole)
        return
    found = False
    for key in window.members():
        if key == name:
            found = True
            yield from _items(window, rest, whole)
            if not whole:
                return
        else:
            window.skip()
    if not found:
        raise window.missing(name)


class _Window:
    """The part of a JSON file that is being read; it moves forward only."""

    def __init__(self, file: TextIO, path: str):
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._line = self._column = 1  # of the first character of `_text`

    def value(self) -> Any:
        """The next value, whole."""
        self._peek()
        size = _WINDOW
        while True:
            last = len(self._text) - _LONGEST_TOKEN
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if error.pos < last and not error.msg.startswith("Unterminated"):
                    raise self._malformed(error.msg, error.pos) from None
                if not self._grow(size):
                    what = "the file ends early" if error.pos == len(self._text) else error.msg
                    raise self._malformed(what, error.pos) from None
            except RecursionError:
                raise self._malformed("nested too deeply") from None
            except ValueError as error:  # such as an integer of 5,000 digits
                raise self._malformed(str(error)) from None
            else:
                # A number may go on behind the window's end: 12, then .5
                if end < last or not self._grow(size):
                    self._at = end
                    return value
            size *= 2  # so that a long value is decoded a few times, not once for each window

    def skip(self) -> None:
        """Passes over the next value; a list item by item."""
        if self._peek() != "[":
            self.value()
            return
        for _ in self.inside("[", "]"):
            self.value()

    def members(self) -> Iterator[str]:
        """Stops before the value of each key of an object, which must then be read."""
        for _ in self.inside("{", "}"):
            if self._peek() != '"':
                raise self._malformed("Expecting property name enclosed in double quotes")
            key = str(self.value())
            self._take(":")
            yield key

    def inside(self, opening: str, closing: str) -> Iterator[None]:
        """Stops before each item between two brackets, which must then be read."""
        if (first := self._peek()) != opening:
            found = _KINDS.get(first, "something else")
            raise self.error(f"{_KINDS[opening]} is needed here, found {found}")
        self._take(opening)
        if self._peek() != closing:
            yield
            while self._peek() != closing:
                self._take(",")
                yield
        self._take(closing)

    def finish(self) -> None:
        """Makes sure that nothing follows."""
        if self._next():
            raise self._malformed("Extra data")

    def missing(self, key: str) -> DataError:
        """An error where an object has ended that should have a `key`."""
        return self.error(f"no {key!r} in the object that ends here")

    def error(self, what: str, at: int | None = None) -> DataError:
        """An error that names the place `at` in the window; None is where it stands."""
        before = self._text[: self._at if at is None else at]
        line, column = _moved(self._line, self._column, before)
        return DataError(what, where=f"{self._path}, line {line}, column {column}")

    def _malformed(self, what: str, at: int | None = None) -> DataError:
        return self.error(f"malformed JSON: {what}", at)

    def _next(self) -> str:
        """The next character that is no space, without passing it; empty at the end."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._grow(_WINDOW):
                return self._text[self._at : self._at + 1]

    def _peek(self) -> str:
        if not (found := self._next()):
            raise self._malformed("the file ends early")
        return found

    def _take(self, character: str) -> None:
        if self._peek() != character:
            raise self._malformed(f"Expecting {character!r} delimiter")
        self._at += 1

    def _grow(self, size: int) -> bool:
        """Lets go what has been read and adds `size` characters; False at the end of the file."""
        rest = len(self._text) - self._at
        if rest > _MAX_VALUE:
            raise self.error(f"value of more than {_MAX_VALUE:,} characters")
        try:
            more = self._file.read(size)
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode(errors="replace")
            self._text += before
            raise self._malformed("not UTF-8", len(self._text)) from None
        if more:
            self._line, self._column = _moved(self._line, self._column, self._text[: self._at])
            self._text, self._at = self._text[self._at :] + more, 0
        return bool(more)


def _moved(line: int, column: int, text: str) -> tuple[int, int]:
    """Where one is after `text`."""
    n_lines = text.count("\n")
    if n_lines:
        return line + n_lines, len(text) - text.rfind("\n")
    return line, column + len(text)
