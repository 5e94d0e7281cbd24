"""Locations of an image to 0..1 of a convention's frame and back, with what cannot be shown."""

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

from locvlm.errors import ConfigError, DataError
from locvlm.geometry import Geometry, GeometryMode, clip, crop, pad, resize
from locvlm.types import Box, Location, Point, Size, Unit

GeometryName: TypeAlias = Literal["resize", "pad", "crop"]
_MODES: Mapping[str, GeometryMode] = {"resize": resize, "pad": pad, "crop": crop}


def check_geometry(name: str) -> None:
    """Refuses names other than `resize`, `pad` and `crop`.

    Raises:
        ConfigError: there is no such geometry.
    """
    if name not in _MODES:
        raise ConfigError(f"no geometry called {name!r}", fix=f"choose from {', '.join(_MODES)}")


def frame(size: Size, geometry: GeometryName) -> Geometry:
    """The area of an image of (width, height) `size` that 0..1 spans."""
    return _MODES[geometry](*size)


def to_unit(location: Location, size: Size, geometry: GeometryName) -> Unit:
    """Pixels to 0..1; a box is cut to what the frame shows of the image.

    Raises:
        DataError: the location is not finite, lies outside, or has its corners in wrong order.
    """
    area = frame(size, geometry)
    return area.to_frame(visible(location, size, area))


def visible(location: Location, size: Size, area: Geometry) -> Location:
    """What of a location lies in the image and in the `area` of it that is shown, in pixels.

    Raises:
        DataError: the location is not finite, lies outside, or has its corners in wrong order.
    """
    if not all(map(math.isfinite, location)):
        raise DataError(f"location without end: {_written(location)}")
    if isinstance(location, Point):
        if clip(location, size) != location or not all(
            -1e-9 <= v <= 1 + 1e-9 for v in area.to_frame(location)
        ):
            raise DataError(f"point outside the image: {_written(location)} of {_sides(size)}")
        return location
    if location.x1 > location.x2 or location.y1 > location.y2:
        raise DataError(f"box with corners in the wrong order: {_written(location)}")
    seen = area.seen(resize(*size).seen(location))
    if seen.x1 > seen.x2 or seen.y1 > seen.y2:
        raise DataError(f"box outside the image: {_written(location)} of {_sides(size)}")
    return seen


def from_unit(
    values: Unit, size: Size, geometry: GeometryName, error: tuple[float, float]
) -> Location | None:
    """The inverse, clipped to the image; None where no location of the image is meant.

    Args:
        values: of the frame; outside 0..1 there is nothing.
        size: of the image.
        geometry: what the frame shows of it.
        error: rounding in pixels (x, y): so far a location may lie in the padding around.
    """
    if not all(0 <= value <= 1 for value in values):
        return None
    pixels = frame(size, geometry).from_frame(values)
    if isinstance(pixels, Box) and (pixels.x1 > pixels.x2 or pixels.y1 > pixels.y2):
        return None
    for axis in (0, 1):
        first, last = pixels[axis], pixels[axis - 2]
        slack = error[axis] + 1e-6
        if last < -slack or first > size[axis] + slack:
            return None
    return clip(pixels, size)


def _written(location: Location) -> str:
    return ", ".join(f"{value:g}" for value in location)


def _sides(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
