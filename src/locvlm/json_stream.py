"""Reads JSON files of gigabytes item by item: memory holds one item, not the file.

Python's own decoder works on a window of the file, so values and refusals are those of
`io.read_json`: NaN is a number, a byte order mark is no error, endless nesting is one. A value that
is whole but that it refuses costs that value only: a `DataError` stands in its place.
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
_NUMBER = re.compile(r"[-+.\w]*")
# All that tells where a list, an object or a text ends; a lone backslash is the window's last.
_MARK = re.compile(r"""\\.?|["\[\]{}]""", re.DOTALL)
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

    Yields:
        The items; a `DataError` in place of one that is nested too deeply, or too long.

    Raises:
        DataError: the file is missing or malformed, or has no such list, or two of them; names
            line and column.
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
    with _opened(path) as window:
        for key in window.members(names):
            for _ in window.inside("[", "]"):
                yield key, window.value()
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
    for _ in window.members([name]):
        yield from _items(window, rest, whole)
        if not whole:
            return


class _Window:
    """The part of a JSON file that is being read; it moves forward only."""

    def __init__(self, file: TextIO, path: str):
        self._file, self._path = file, path
        self._text, self._at = "", 0
        self._line = self._column = 1  # of the first character of `_text`

    def value(self) -> Any:
        """The next value, whole; an error in place of one that is closed but cannot be decoded."""
        self._peek()
        size = _WINDOW
        while True:
            last = len(self._text) - _LONGEST_TOKEN
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if error.pos < last and not error.msg.startswith("Unterminated"):
                    raise self._malformed(error.msg, error.pos) from None
                wrong, end = error.msg, error.pos  # the error itself would hold the text
            except (RecursionError, ValueError) as error:  # such as an integer of 5,000 digits
                deep = isinstance(error, RecursionError)
                return self._passed("nested too deeply" if deep else str(error))
            else:
                wrong = ""
                if end < last and end - self._at <= _MAX_VALUE:
                    self._at = end
                    return value
            # A number may go on behind the window's end: 12, then .5
            open_ended = wrong or end >= last
            if not open_ended or len(self._text) - self._at > _MAX_VALUE:
                return self._passed(f"a value of more than {_MAX_VALUE:,} characters")
            if self._grow(size):
                size *= 2  # so that a long value is decoded a few times, not once for each window
                continue
            if wrong:
                what = "the file ends early" if end == len(self._text) else wrong
                raise self._malformed(what, end)
            self._at = end
            return value

    def skip(self) -> None:
        """Passes over the next value; a list item by item."""
        if self._peek() != "[":
            self.value()
            return
        for _ in self.inside("[", "]"):
            self.value()

    def members(self, names: Collection[str]) -> Iterator[str]:
        """Stops before the value of each of the keys `names` of an object, to be read then."""
        missing = dict.fromkeys(names)
        for _ in self.inside("{", "}"):
            if self._peek() != '"':
                raise self._malformed("Expecting property name enclosed in double quotes")
            key = self.value()
            if isinstance(key, DataError):
                raise key
            self._take(":")
            if key not in names:
                self.skip()
            elif key in missing:
                del missing[key]
                yield key
            else:
                raise self.error(f"a second {key!r} in this object")
        for name in missing:
            raise self.error(f"no {name!r} in the object that ends here")

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

    def error(self, what: str, at: int | None = None) -> DataError:
        """An error that names the place `at` in the window; None is where it stands."""
        before = self._text[: self._at if at is None else at]
        line, column = _moved(self._line, self._column, before)
        return DataError(what, where=f"{self._path}, line {line}, column {column}")

    def _malformed(self, what: str, at: int | None = None) -> DataError:
        return self.error(f"malformed JSON: {what}", at)

    def _passed(self, what: str) -> DataError:
        """Passes over the next value by its quotes and brackets; what was wrong with it, and where.

        Raises:
            DataError: that very error, as the file ends before the value does.
        """
        error = self._malformed(what)
        if self._peek() not in _KINDS:
            self._next(_NUMBER)
            return error
        depth, quoted = 0, False
        while True:
            mark = ""
            for found in _MARK.finditer(self._text, self._at):
                mark = found[0]
                if mark == '"':
                    quoted = not quoted
                elif mark[0] == "\\" or quoted:
                    continue
                else:
                    depth += 1 if mark in "[{" else -1
                if not depth and not quoted:
                    self._at = found.end()
                    return error
            self._at = len(self._text) - (mark == "\\")  # it goes with what comes next
            if not self._grow(_WINDOW):
                raise error

    def _next(self, passing: re.Pattern[str] = _SPACE) -> str:
        """The character behind what `passing` fits, without passing it; empty at the end."""
        while True:
            self._at = passing.match(self._text, self._at).end()  # type: ignore[union-attr]
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
