"""Image geometry: which area of the original image fills the model's frame, and back again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from locvlm.errors import DataError
from locvlm.types import Box, Location, Point, Sample, Size, Unit

L = TypeVar("L", bound=Location)
# (width, height) of an image to the geometry that it is shown with: `resize`, `pad` or `crop`
GeometryMode: TypeAlias = "Callable[[int, int], Geometry]"


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which area of the original image fills the model's frame; reversible.

    It travels with every sample and every answer, so that users give and get original pixels only.

    Args:
        left: pixels added left of the image; negative where a crop cuts some off.
        top: pixels added above it.
        width: width of the area that becomes the frame, in original pixels.
        height: its height.
        flipped: whether the frame shows that area mirrored left to right.

    Raises:
        DataError: the area is empty.
    """

    left: int
    top: int
    width: int
    height: int
    flipped: bool = False

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise DataError(
                f"no frame can show an area of {self.width} x {self.height} pixels",
                fix="give the image's (width, height), both at least 1",
            )

    def to_frame(self, location: Location) -> Unit:
        """Pixels to x' = (x + left) / width, y' = (y + top) / height; outside [0, 1]: not in it."""
        xs = [(x + self.left) / self.width for x in location[0::2]]
        ys = [(y + self.top) / self.height for y in location[1::2]]
        return self._join(self._mirror(xs), ys)

    def from_frame(self, values: Unit) -> Location:
        """The inverse: four values give a `Box`, two a `Point`."""
        xs = [x * self.width - self.left for x in self._mirror(list(values[0::2]))]
        ys = [y * self.height - self.top for y in values[1::2]]
        pixels = self._join(xs, ys)
        return Box(*pixels) if len(pixels) == 4 else Point(*pixels)

    def seen(self, box: Box) -> Box:
        """The part of the box that lies in the frame, in pixels; without area where none does."""
        return Box(
            max(box.x1, -self.left),
            max(box.y1, -self.top),
            min(box.x2, self.width - self.left),
            min(box.y2, self.height - self.top),
        )

    def visible(self, box: Box) -> float:
        """Share of the box's area that lies in the frame, 0 to 1; 0 for a box without area."""
        return self.seen(box).area / box.area if box.area > 0 else 0.0

    def flip(self) -> "Geometry":
        """The same area mirrored left to right; twice gives the first again."""
        return replace(self, flipped=not self.flipped)

    def _mirror(self, xs: list[float]) -> list[float]:
        # A mirrored box's right edge is its left one: the order turns with the side.
        return [1 - x for x in reversed(xs)] if self.flipped else xs

    @staticmethod
    def _join(xs: list[float], ys: list[float]) -> Unit:
        return Unit(tuple(value for pair in zip(xs, ys, strict=True) for value in pair))


def resize(width: int, height: int) -> Geometry:
    """The whole image squashed to the square frame: x' = x n / W, y' = y n / H."""
    return Geometry(0, 0, width, height)


def pad(width: int, height: int) -> Geometry:
    """The image centred on a square of side max(W, H): x' = (x + (S - W) // 2) n / S.

    An odd difference leaves the extra pixel right or below, as in LLaVA-1.5's `expand2square`.
    """
    side = max(width, height)
    return Geometry((side - width) // 2, (side - height) // 2, side, side)


def crop(width: int, height: int) -> Geometry:
    """The largest centred square: short side to n, then a centre crop (CLIP's and LLaVA-v1's)."""
    side = min(width, height)
    return Geometry(-((width - side) // 2), -((height - side) // 2), side, side)


def visible_part(sample: Sample, mode: GeometryMode, min_share: float = 0.5) -> Sample:
    """`sample` with its instances clipped to what the model sees of the image.

    Args:
        sample: returned as it is where the geometry cuts nothing off.
        mode: `resize`, `pad` or `crop`.
        min_share: instances that keep less of their area are dropped.
    """
    if sample.size is None:
        return sample
    geometry = mode(*sample.size)
    if geometry.left >= 0 and geometry.top >= 0:
        return sample
    instances = tuple(
        replace(instance, box=geometry.seen(instance.box))
        for instance in sample.instances
        if geometry.visible(instance.box) >= min_share
    )
    return replace(sample, instances=instances)


def clip(location: L, size: Size) -> L:
    """A box or point moved into an image of (width, height) `size`, in pixels."""
    width, height = size
    limits = (width, height) * (len(location) // 2)
    inside = (min(max(v, 0.0), float(limit)) for v, limit in zip(location, limits, strict=True))
    return type(location)(*inside)


def to_location(values: Sequence[float], size: Size, where: str = "location") -> Location:
    """Four numbers as a box and two as a point, each a place in an image that can be asked about.

    Args:
        values: x1, y1, x2, y2 or x, y in pixels.
        size: (width, height) of the image.
        where: they come from, for error messages.

    Raises:
        DataError: another number of them, a box without area, or a place outside the image.
    """
    if len(values) not in (2, 4):
        raise DataError(
            f"{list(values)} is neither a box nor a point",
            where=where,
            fix="give x1, y1, x2, y2 or x, y in pixels of the image",
        )
    # Not the other way round: NaN lies nowhere.
    if not all(0 <= value <= size[n % 2] for n, value in enumerate(values)):
        raise DataError(
            f"{list(values)} is not in the image, which has {size[0]} x {size[1]} pixels",
            where=where,
            fix="give pixels of this very image",
        )
    location = Box(*values) if len(values) == 4 else Point(*values)
    if isinstance(location, Box) and not location.area:
        raise DataError(
            f"box {list(values)} has no area", where=where, fix="give x1 < x2 and y1 < y2"
        )
    return location
