"""Scenes of a world: endless, the same for a seed in every run, and never in two splits."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from random import Random
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from locvlm.errors import ConfigError
from locvlm.scenes.render import render
from locvlm.scenes.world import SceneObject, World
from locvlm.types import Sample

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
# Of 16 parts of all layouts, the last two are set aside for validation and for the test
_PARTS = 16
# More draws than it ever takes in a world that has scenes left
_DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture of the world and all that is known about it.

    Args:
        world: palette, size and words.
        key: unique among the splits of one seed.
        objects: what it shows.
        absent: shapes that it does not show.
        absent_descriptions: phrases such as "green star" whose shape it does not show.
        texture: seed of its background.
    """

    world: World
    key: str
    objects: tuple[SceneObject, ...]
    absent: tuple[str, ...]
    absent_descriptions: tuple[str, ...]
    texture: int

    @property
    def image(self) -> NDArray[np.uint8]:
        """The picture, (image_size, image_size, 3) RGB; drawn anew each time."""
        return render(self.world, self.objects, self.texture)

    def png(self) -> bytes:
        """The picture as a PNG file."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "PNG")
        return buffer.getvalue()

    def sample(self) -> Sample:
        """The annotated image, as a reader of its COCO files yields it, but for the key."""
        return Sample(
            key=self.key,
            source="built-in scenes",
            image=self.png(),
            size=(self.world.image_size, self.world.image_size),
            instances=tuple(item.instance() for item in self.objects),
            absent=(*self.absent, *self.absent_descriptions),
        )


def scenes(world: World, split: Split, count: int | None = None, seed: int = 0) -> Iterator[Scene]:
    """Scenes of one split, all different; endless where `count` is None.

    Every layout belongs to one split by its digest, whatever the seed and the count: no test scene
    of one seed can be a training scene of another.

    Raises:
        ConfigError: there is no such split, or the world has not so many scenes.
    """
    if split not in SPLITS:
        raise ConfigError(f"no split named {split!r}", fix=f"choose from {', '.join(SPLITS)}")
    seen: set[bytes] = set()
    for index in count_from():
        if index == count:
            return
        rng = Random(f"scene {split} {seed} {index}")
        objects = _new_layout(world, split, seen, rng)
        yield _scene(world, f"{split}-{index:06d}", objects, rng)


def _new_layout(
    world: World, split: Split, seen: set[bytes], rng: Random
) -> tuple[SceneObject, ...]:
    """Objects that belong to `split` and are not in `seen`; adds them to it."""
    for _ in range(_DRAWS):
        objects = world.draw(rng)
        digest = layout_digest(objects)
        if digest not in seen and _split_of(digest) == split:
            seen.add(digest)
            return objects
    raise ConfigError(
        f"this world has hardly more than {len(seen)} different scenes for {split}",
        where="scenes.splits",
        fix="ask for fewer scenes, or for a larger world",
    )


def layout_digest(objects: Sequence[SceneObject]) -> bytes:
    """The same for the same objects at the same places, in any order and on any background."""
    lines = sorted(f"{item.shape} {item.color} {tuple(map(int, item.box))}" for item in objects)
    return hashlib.sha256("\n".join(lines).encode()).digest()[:16]


def _split_of(digest: bytes) -> Split:
    part = digest[0] % _PARTS
    return {_PARTS - 2: SPLITS[1], _PARTS - 1: SPLITS[2]}.get(part, SPLITS[0])


def _scene(world: World, key: str, objects: tuple[SceneObject, ...], rng: Random) -> Scene:
    shown = {item.shape for item in objects}
    absent = [shape for shape in world.shapes if shape not in shown]
    colors = rng.choices(list(world.colors), k=len(absent))
    return Scene(
        world=world,
        key=key,
        objects=objects,
        absent=tuple(absent),
        absent_descriptions=tuple(map("{} {}".format, colors, absent)),
        texture=rng.getrandbits(32),
    )
