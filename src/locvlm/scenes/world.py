"""The built-in world: which objects a scene may hold, and where they may lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from random import Random

from locvlm.errors import ConfigError
from locvlm.scenes.shapes import SHAPES
from locvlm.types import Box, Instance

COLORS: Mapping[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "green": (40, 160, 60),
    "blue": (45, 75, 225),
    "yellow": (240, 220, 40),
    "purple": (150, 45, 190),
    "orange": (245, 140, 25),
    "white": (248, 248, 248),
    "black": (15, 15, 15),
}
# A dense layout is drawn again from the start, so that late objects are not the small ones
_TRIES, _RESTARTS = 20, 1000


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One drawn object.

    Args:
        shape: its category.
        color: the word for its colour.
        box: the exact extent of its pixels, in whole pixels.
    """

    shape: str
    color: str
    box: Box

    @property
    def description(self) -> str:
        """The phrase that names it, such as "red circle"."""
        return f"{self.color} {self.shape}"

    def instance(self) -> Instance:
        """The object as any annotated image has it."""
        return Instance(self.shape, self.box, self.description)


@dataclass(frozen=True, slots=True)
class World:
    """What scenes look like. Within a scene no shape and no colour occurs twice.

    Args:
        image_size: side of the square image in pixels.
        shapes: category words, out of `locvlm.scenes.SHAPES`.
        colors: colour words and their RGB, 0 to 255.
        min_objects: fewest objects in a scene.
        max_objects: most objects in a scene.
        min_side: side of the smallest object, as a share of the image's.
        max_side: side of the largest one.
        margin: pixels that stay free between two objects.
        noise: standard deviation of the noise on every pixel, in steps of 0 to 255.

    Raises:
        ConfigError: a shape that cannot be drawn, or more objects than shapes, colours or room.
    """

    image_size: int = 64
    shapes: Sequence[str] = tuple(SHAPES)
    colors: Mapping[str, Sequence[int]] = field(default_factory=lambda: dict(COLORS))
    min_objects: int = 2
    max_objects: int = 4
    min_side: float = 0.2
    max_side: float = 0.4
    margin: int = 1
    noise: float = 3.0

    def __post_init__(self) -> None:
        for shape in self.shapes:
            if shape not in SHAPES:
                close = get_close_matches(shape, SHAPES, 1)
                fix = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(SHAPES)}"
                raise ConfigError(f"no shape named {shape!r}", where="world.shapes", fix=fix)
        kinds = min(len(set(self.shapes)), len(self.colors))
        if not 1 <= self.min_objects <= self.max_objects <= kinds:
            raise ConfigError(
                f"{self.min_objects} to {self.max_objects} objects cannot be told apart by "
                f"{len(set(self.shapes))} shapes and {len(self.colors)} colors",
                where="world.max_objects",
                fix="ask for fewer objects, or give more shapes and colors",
            )
        if not 0 < self.min_side <= self.max_side <= 1 or self.sides[0] < 1:
            raise ConfigError(
                f"objects of {self.min_side} to {self.max_side} of the image's side "
                f"cannot be drawn in {self.image_size} pixels",
                where="world.min_side",
                fix="use shares above 0, the smaller first, such as 0.2 and 0.4",
            )

    @property
    def sides(self) -> tuple[int, int]:
        """Sides of the smallest and the largest object in pixels."""
        return round(self.min_side * self.image_size), round(self.max_side * self.image_size)

    def draw(self, rng: Random) -> tuple[SceneObject, ...]:
        """Objects of one scene, in no order that says anything about their places.

        Raises:
            ConfigError: so many objects of this size do not fit into the image.
        """
        n = rng.randint(self.min_objects, self.max_objects)
        shapes = rng.sample(list(self.shapes), n)
        colors = rng.sample(list(self.colors), n)
        boxes = self._boxes(n, rng)
        return tuple(map(SceneObject, shapes, colors, boxes))

    def _boxes(self, n: int, rng: Random) -> list[Box]:
        for _ in range(_RESTARTS):
            boxes: list[Box] = []
            while len(boxes) < n and (box := self._free_box(boxes, rng)):
                boxes.append(box)
            if len(boxes) == n:
                return rng.sample(boxes, n)
        raise ConfigError(
            f"no room for {n} objects of {self.sides[0]} to {self.sides[1]} pixels "
            f"in {self.image_size} x {self.image_size}",
            where="world.max_objects",
            fix="ask for fewer or smaller objects",
        )

    def _free_box(self, taken: Sequence[Box], rng: Random) -> Box | None:
        gap = self.margin
        for _ in range(_TRIES):
            side = rng.randint(*self.sides)
            x, y = (rng.randint(0, self.image_size - side) for _ in "xy")
            if all(
                x + side + gap <= box.x1
                or box.x2 + gap <= x
                or y + side + gap <= box.y1
                or box.y2 + gap <= y
                for box in taken
            ):
                return Box(x, y, x + side, y + side)
        return None
