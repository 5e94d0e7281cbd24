"""A convention that others write locations in: its numbers, and the text around them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from locvlm.dialects.numbers import Numbers
from locvlm.dialects.parts import Phrase, Span, groups, interleave
from locvlm.dialects.syntax import Syntax
from locvlm.types import Part, Size


class Dialect(Protocol):
    """Reads and writes locations in text; between the two they are pixels of the original image."""

    def mentions(self, text: str) -> int:
        """How many locations the text seems to hold; an image may show that some are none."""

    def read(self, text: str, size: Size) -> tuple[Part, ...]:
        """Text and, between it, the locations that it holds, clipped to the image.

        Never raises; what cannot be read as a location of the image stays text, as it is.

        Args:
            text: of one turn.
            size: (width, height) of the original image in pixels.
        """

    def write(self, parts: Sequence[Part], size: Size) -> str:
        """The inverse, but for rounding.

        Raises:
            DataError: a location lies outside the image, or the convention cannot express it.
        """

    def worst_error(self, size: Size) -> tuple[float, float]:
        """How far writing moves a coordinate at most, in pixels: (x, y)."""


@dataclass(frozen=True, slots=True)
class Convention:
    """A `Dialect` made of two parts.

    Args:
        numbers: what locations become.
        syntax: how that stands in the text.
    """

    numbers: Numbers
    syntax: Syntax

    def mentions(self, text: str) -> int:
        return sum(self.numbers.fits(row) for match in self.syntax.find(text) for row in match.rows)

    def read(self, text: str, size: Size) -> tuple[Part, ...]:
        return interleave(text, self._spans(text, size))

    def write(self, parts: Sequence[Part], size: Size) -> str:
        texts = []
        for part in groups(parts):
            if isinstance(part, str):
                texts.append(part)
            else:
                rows = [self.numbers.write(location, size) for location in part.locations]
                texts.append(self.syntax.write(part.phrase, rows))
        return "".join(texts)

    def worst_error(self, size: Size) -> tuple[float, float]:
        return self.numbers.worst_error(size)

    def _spans(self, text: str, size: Size) -> Iterator[Span]:
        for match in self.syntax.find(text):
            read = [
                location
                for row in match.rows
                if self.numbers.fits(row) and (location := self.numbers.read(row, size)) is not None
            ]
            if len(read) == len(match.rows):
                name = [] if match.phrase is None else [Phrase(match.phrase)]
                yield Span(match.start, match.end, [*name, *read])
