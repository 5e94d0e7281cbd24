"""Locations as text: `[4, 52, 13, 63] bbox`, `[9, 58] point`."""

from locvlm.coordinates.scheme import Coordinates
from locvlm.types import Unit


def write_location(values: Unit, scheme: Coordinates, suffix: bool = True) -> str:
    """A location of the frame as text.

    Args:
        values: four frame coordinates of a box, or two of a point.
        scheme: writes the numbers.
        suffix: adds " bbox" or " point", as the paper prints them.
    """
    numbers = ", ".join(scheme.format(number) for number in scheme.encode(values))
    word = (" bbox" if len(values) == 4 else " point") if suffix else ""
    return f"[{numbers}]{word}"
