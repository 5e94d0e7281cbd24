"""The text that locvlm's own schemes write, as one dialect among others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from locvlm.coordinates import DIGA, IVB, NFP, Coordinates, Found, parse, write_location
from locvlm.dialects.frames import GeometryName, check_geometry, frame, from_unit, to_unit
from locvlm.dialects.parts import Span, groups, interleave
from locvlm.dialects.syntax import named
from locvlm.types import Part, Size


@dataclass(frozen=True, slots=True)
class SchemeText:
    """A `Dialect`: `[4, 52, 13, 63] bbox`, `[9, 58] point`.

    Args:
        coordinates: writes and reads the numbers.
        geometry: what the model's frame shows of the image: `resize`, `pad` or `crop`.
        step: what the scheme rounds to, as a share of the frame.
        suffix: whether " bbox" or " point" follows. With it, brackets without it stay text.

    Raises:
        ConfigError: there is no such geometry.
    """

    coordinates: Coordinates
    geometry: GeometryName
    step: float
    suffix: bool = True

    def __post_init__(self) -> None:
        check_geometry(self.geometry)

    def mentions(self, text: str) -> int:
        return sum(1 for _ in self._found(text))

    def read(self, text: str, size: Size) -> tuple[Part, ...]:
        return interleave(text, self._spans(text, size))

    def write(self, parts: Sequence[Part], size: Size) -> str:
        texts = []
        for part in groups(parts):
            if isinstance(part, str):
                texts.append(part)
            else:
                units = (to_unit(one, size, self.geometry) for one in part.locations)
                written = (write_location(one, self.coordinates, self.suffix) for one in units)
                texts.append(named(part.phrase, "".join(written)))
        return "".join(texts)

    def worst_error(self, size: Size) -> tuple[float, float]:
        area = frame(size, self.geometry)
        return area.width * self.step / 2, area.height * self.step / 2

    def _found(self, text: str) -> Iterator[Found]:
        for found in parse(text, self.coordinates).found:
            if not self.suffix or text[found.end - 1] not in "])":
                yield found

    def _spans(self, text: str, size: Size) -> Iterator[Span]:
        for found in self._found(text):
            place = from_unit(found.values, size, self.geometry, self.worst_error(size))
            if place is not None:
                yield Span(found.start, found.end, [place])


def nfp(decimals: int = 4, geometry: GeometryName = "resize", suffix: bool = True) -> SchemeText:
    """Decimal fractions; `geometry` as the model has it."""
    return SchemeText(NFP(decimals), geometry, 10**-decimals, suffix)


def ivb(bins: int = 224, geometry: GeometryName = "resize", suffix: bool = True) -> SchemeText:
    """Integers 0 to `bins`; `bins` and `geometry` as the model has them.

    >>> from locvlm.types import Box
    >>> ivb().write(["at ", Box(10, 120, 30, 145)], (512, 512))
    'at [4, 52, 13, 63] bbox'
    """
    return SchemeText(IVB(bins), geometry, 1 / bins, suffix)


def diga(
    bins: int = 224, cell: int = 14, geometry: GeometryName = "resize", suffix: bool = True
) -> SchemeText:
    """Deviations from anchors; `bins`, `cell` and `geometry` as the model has them."""
    return SchemeText(DIGA(bins, cell), geometry, 1 / bins, suffix)
