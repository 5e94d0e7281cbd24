"""The numbers of a convention: what it divides the sides of an image into."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, sqrt
from typing import Protocol

from locvlm.coordinates import IVB, NFP
from locvlm.dialects.frames import GeometryName, check_geometry, frame, from_unit, to_unit, visible
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Location, Point, Size, Unit

# Decimals this far outside 0..1 (a share of the side) are taken for its end: data that GPT-4 wrote
# for Ferret goes up to 1.006.
OVERSHOOT = 0.01
_MAX_RATIO = 200  # of the sides of an image that Qwen2.5-VL takes
_INTEGER = re.compile(r"\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"-?\d{1,9}(?:\.\d{0,30})?", re.ASCII)


class Numbers(Protocol):
    """Locations in pixels of the original image to a convention's numbers and back."""

    def write(self, location: Location, size: Size) -> list[str]:
        """A location's numbers, each as text.

        Raises:
            DataError: the convention cannot express it, or it lies outside the image.
        """

    def fits(self, words: Sequence[str]) -> bool:
        """Whether words look like a location of some image."""

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        """The inverse of `write` for words that fit; None where the image has no such place."""

    def worst_error(self, size: Size) -> tuple[float, float]:
        """How far rounding moves a coordinate at most, in pixels: (x, y)."""


@dataclass(frozen=True, slots=True)
class Fractions:
    """Decimal fractions of the frame's sides.

    Args:
        decimals: digits after the point.
        geometry: what the frame shows of the image.
        shortest: writes 0.3 rather than 0.30.
        points: whether the convention has points beside boxes.
    """

    decimals: int
    geometry: GeometryName
    shortest: bool = False
    points: bool = True

    def __post_init__(self) -> None:
        check_geometry(self.geometry)
        NFP(self.decimals)  # refuses decimals out of range

    def write(self, location: Location, size: Size) -> list[str]:
        if not self.points:
            check_box(location)
        scheme = NFP(self.decimals)
        numbers = scheme.encode(to_unit(location, size, self.geometry))
        return [str(n) if self.shortest else scheme.format(n) for n in numbers]

    def fits(self, words: Sequence[str]) -> bool:
        # Integers in brackets are seldom places: [0, 1] in a lesson on Python.
        return any("." in word for word in words) and _are(words, _DECIMAL, self.points)

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        numbers = [float(word) for word in words]
        if not all(-OVERSHOOT <= number <= 1 + OVERSHOOT for number in numbers):
            return None
        values = Unit(tuple(min(max(number, 0.0), 1.0) for number in numbers))
        return from_unit(values, size, self.geometry, self.worst_error(size))

    def worst_error(self, size: Size) -> tuple[float, float]:
        area = frame(size, self.geometry)
        step = 10**-self.decimals
        return area.width * step / 2, area.height * step / 2


@dataclass(frozen=True, slots=True)
class Integers:
    """Integers from 0 to `bins` for each side of the whole image.

    Args:
        bins: what a side is divided into.
        last: the largest number that is written; None: `bins`.
        digits: leading zeros fill up to so many.
        points: whether the convention has points beside boxes.
    """

    bins: int
    last: int | None = None
    digits: int = 1
    points: bool = True

    def write(self, location: Location, size: Size) -> list[str]:
        if not self.points:
            check_box(location)
        numbers = IVB(self.bins).encode(to_unit(location, size, "resize"))
        last = self.bins if self.last is None else self.last
        return [str(min(number, last)).zfill(self.digits) for number in numbers]

    def fits(self, words: Sequence[str]) -> bool:
        return _are(words, _INTEGER, self.points)

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        values = IVB(self.bins).decode([int(word) for word in words])
        return from_unit(values, size, "resize", self.worst_error(size))

    def worst_error(self, size: Size) -> tuple[float, float]:
        cut = 0.0 if self.last is None else 1 - self.last / self.bins
        share = max(1 / (2 * self.bins), cut)
        return size[0] * share, size[1] * share


@dataclass(frozen=True, slots=True)
class Percent:
    """Points in percent of the image's sides, with one decimal; a box gives its centre."""

    def write(self, location: Location, size: Size) -> list[str]:
        shown = visible(location, size, frame(size, "resize"))
        centre = shown.center if isinstance(shown, Box) else shown
        return [f"{100 * value:.1f}" for value in to_unit(centre, size, "resize")]

    def fits(self, words: Sequence[str]) -> bool:
        return len(words) == 2 and _are(words, _DECIMAL)

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        values = Unit(tuple(float(word) / 100 for word in words))
        return from_unit(values, size, "resize", self.worst_error(size))

    def worst_error(self, size: Size) -> tuple[float, float]:
        return size[0] / 2000, size[1] / 2000


@dataclass(frozen=True, slots=True)
class ResizedPixels:
    """Pixels of the image as the model sees it: its sides are multiples of `factor`.

    Args:
        min_pixels: smaller images are enlarged to so many.
        max_pixels: larger ones are reduced.
        factor: pixels that an image token spans.

    Raises:
        ConfigError: nothing fits between the limits.
    """

    min_pixels: int
    max_pixels: int
    factor: int = 28

    def __post_init__(self) -> None:
        if not 0 < self.factor**2 <= self.max_pixels or not 0 < self.min_pixels <= self.max_pixels:
            raise ConfigError(
                f"no image has {self.min_pixels} to {self.max_pixels} pixels "
                f"in squares of {self.factor}",
                where="min_pixels, max_pixels",
            )

    def resized(self, size: Size) -> Size:
        """(width, height) of the image as the model sees it.

        Raises:
            DataError: one side is more than 200 times the other: the model takes no such image.
        """
        width, height = size
        if max(size) > _MAX_RATIO * min(size):
            raise DataError(f"image is too narrow for the model: {width} x {height}")
        # Half a token rounds to none: the image counts as too small then, and is enlarged.
        sides = [round(side / self.factor) * self.factor for side in size]
        if sides[0] * sides[1] > self.max_pixels:
            scale = sqrt(width * height / self.max_pixels)
            tokens = [max(1, floor(side / scale / self.factor)) for side in size]
        elif sides[0] * sides[1] < self.min_pixels:
            scale = sqrt(self.min_pixels / (width * height))
            tokens = [ceil(side * scale / self.factor) for side in size]
        else:
            return sides[0], sides[1]
        return tokens[0] * self.factor, tokens[1] * self.factor

    def write(self, location: Location, size: Size) -> list[str]:
        values = to_unit(location, size, "resize")
        sides = self.resized(size) * 2
        return [str(round(v * side)) for v, side in zip(values, sides, strict=False)]

    def fits(self, words: Sequence[str]) -> bool:
        return _are(words, _DECIMAL)  # whole numbers are written; hand-made data has others too

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        if max(size) > _MAX_RATIO * min(size):
            return None
        sides = self.resized(size) * 2
        values = Unit(tuple(float(w) / side for w, side in zip(words, sides, strict=False)))
        return from_unit(values, size, "resize", self.worst_error(size))

    def worst_error(self, size: Size) -> tuple[float, float]:
        sides = self.resized(size)
        return size[0] / sides[0] / 2, size[1] / sides[1] / 2


@dataclass(frozen=True, slots=True)
class Patches:
    """A box as the indices of two cells of a grid, row by row: its first and its last one.

    Cells say where a box is by their centres, or by their outer edges where the box spans a single
    row or column of cells.

    Args:
        side: cells per side.
    """

    side: int = 32

    def write(self, location: Location, size: Size) -> list[str]:
        check_box(location)
        x1, y1, x2, y2 = (v * self.side for v in to_unit(location, size, "resize"))
        left, top = (min(floor(v), self.side - 1) for v in (x1, y1))
        right, bottom = max(ceil(x2) - 1, left), max(ceil(y2) - 1, top)
        return [f"{row * self.side + column:04d}" for column, row in ((left, top), (right, bottom))]

    def fits(self, words: Sequence[str]) -> bool:
        return len(words) == 2 and _are(words, _INTEGER)

    def read(self, words: Sequence[str], size: Size) -> Location | None:
        (top, left), (bottom, right) = (divmod(int(word), self.side) for word in words)
        if max(top, bottom) >= self.side or left > right or top > bottom:
            return None
        inset = 0.5 if left < right and top < bottom else 0.0
        edges = left + inset, top + inset, right + 1 - inset, bottom + 1 - inset
        values = Unit(tuple(edge / self.side for edge in edges))
        return from_unit(values, size, "resize", self.worst_error(size))

    def worst_error(self, size: Size) -> tuple[float, float]:
        return size[0] / self.side, size[1] / self.side


def check_box(location: Location) -> None:
    """Refuses points.

    Raises:
        DataError: the location is a point.
    """
    if isinstance(location, Point):
        raise DataError(
            "this convention has boxes only, and no point can be written in it",
            fix="choose another one, or leave out the records with points",
        )


def _are(words: Sequence[str], pattern: re.Pattern[str], points: bool = True) -> bool:
    counts = (2, 4) if points else (4,)
    return len(words) in counts and all(pattern.fullmatch(word) for word in words)
