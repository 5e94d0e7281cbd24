"""Text with locations in it, taken apart and put together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from locvlm.types import Location, Part


class Phrase(str):
    """Text that names an object where a convention marks such names: `<ref>the cat</ref>`.

    It is text like any other for whoever does not ask, and conventions without marks write it so.
    """

    __slots__ = ()


class Span(NamedTuple):
    """The characters `start` to `end` of a text, and what they stand for."""

    start: int
    end: int
    parts: Sequence[Part]


class Group(NamedTuple):
    """Locations with nothing between them, and the phrase right before them, if there is one."""

    phrase: Phrase | None
    locations: tuple[Location, ...]


def interleave(text: str, spans: Iterable[Span]) -> tuple[Part, ...]:
    """The parts of `spans`, in the order of the text, with the text between them as it stands.

    >>> interleave("a [1] c", [Span(2, 5, [Phrase("b")])])
    ('a ', 'b', ' c')
    """
    parts: list[Part] = []
    end = 0
    for span in spans:
        parts += [text[end : span.start], *span.parts]
        end = span.end
    parts.append(text[end:])
    return tuple(part for part in parts if part != "")


def groups(parts: Sequence[Part]) -> Iterator[str | Group]:
    """Plain text, and between it phrases with the locations that follow them."""
    phrase: Phrase | None = None
    locations: list[Location] = []
    for part in parts:
        if not isinstance(part, str):
            locations.append(part)
            continue
        if phrase is not None or locations:
            yield Group(phrase, tuple(locations))
        phrase, locations = None, []
        if isinstance(part, Phrase):
            phrase = part
        else:
            yield part
    if phrase is not None or locations:
        yield Group(phrase, tuple(locations))
