"""Reads locations from a model's text, whatever the model wrote; it never raises."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from locvlm.coordinates.scheme import Coordinates, Problem
from locvlm.types import Unit

Reason: TypeAlias = Literal["wrong count", "wrong suffix", "wrong order"] | Problem
Status: TypeAlias = Literal["ok", "no location"] | Reason

# No pattern here can match one text in two ways, so hostile text costs no more than any other.
_BRACKETS = re.compile(
    r"[\[(]([^\[\]()]*)[\])](?:[ \t]*(bbox|box|point)\b)?", re.ASCII | re.IGNORECASE
)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A location of the frame, and the characters `start` to `end` that it was read from."""

    values: Unit
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Numbers in brackets that are no location of the scheme, and why."""

    text: str
    start: int
    end: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text holds, in its order."""

    found: tuple[Found, ...]
    rejected: tuple[Rejected, ...]

    @property
    def status(self) -> Status:
        """`ok` where a location was found, else the first reason, else `no location`."""
        if self.found:
            return "ok"
        return self.rejected[0].reason if self.rejected else "no location"


def parse(text: str, scheme: Coordinates) -> Parsed:
    """All locations in `text`: numbers in [] or (), with or without a suffix word.

    Spacing is free, integers may be written as floats, and the text around does not matter.
    Brackets that hold anything but numbers are text. Takes time in proportion to the text.

    Args:
        text: a model's answer.
        scheme: the scheme that the model was trained to write.
    """
    found: list[Found] = []
    rejected: list[Rejected] = []
    for match in _BRACKETS.finditer(text):
        words = match[1].replace(",", " ").replace(";", " ").split()
        if not words or not all(_NUMBER.fullmatch(word) for word in words):
            continue
        values = _read(words, match[2], scheme)
        if isinstance(values, str):
            rejected.append(Rejected(match[0], match.start(), match.end(), values))
        else:
            found.append(Found(values, match.start(), match.end()))
    return Parsed(tuple(found), tuple(rejected))


def _read(words: list[str], suffix: str | None, scheme: Coordinates) -> Unit | Reason:
    if len(words) not in (scheme.n_box, scheme.n_point):
        return "wrong count"
    is_point = len(words) == scheme.n_point
    if suffix and (suffix.lower() == "point") != is_point:
        return "wrong suffix"
    numbers = [float(word) for word in words]  # too many digits give infinity, not an error
    if problem := scheme.check(numbers):
        return problem
    values = scheme.decode(numbers)
    if not is_point and (values[0] > values[2] or values[1] > values[3]):
        return "wrong order"
    return values
