"""What a model's text says of places, in pixels of the user's own image."""

from dataclasses import dataclass

from locvlm.coordinates import Parsed
from locvlm.types import Box, Location


@dataclass(frozen=True, slots=True)
class Located:
    """Locations read from a model's text.

    Args:
        locations: in pixels of the original image, clipped to it, in the order of the text.
        parsed: what was found in the text, and why the rest was rejected.
    """

    locations: tuple[Location, ...]
    parsed: Parsed

    @property
    def boxes(self) -> list[Box]:
        """The locations that are boxes."""
        return [location for location in self.locations if isinstance(location, Box)]
