"""Draws scenes: anti-aliased objects on a plain, slightly shaded and noisy background."""

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import NDArray

from locvlm.scenes.shapes import mask
from locvlm.scenes.world import SceneObject, World

# Greys with a faint tint, so that no object's colour can vanish in them
_GREY, _TINT, _SHADE = (95, 165), 14, 18


def render(world: World, objects: Sequence[SceneObject], texture: int) -> NDArray[np.uint8]:
    """The picture of `objects`, (image_size, image_size, 3) RGB.

    Args:
        world: palette, size and noise.
        objects: what to draw; boxes in whole pixels inside the image.
        texture: seed of the background and of the noise.
    """
    side = world.image_size
    rng = Random(texture)
    image = _background(side, rng)
    for item in objects:
        x1, y1, x2, y2 = (int(value) for value in item.box)
        cover = mask(item.shape, x2 - x1)[..., None]
        area = image[y1:y2, x1:x2]
        area += cover * (np.asarray(world.colors[item.color], dtype=np.float32) - area)
    noise = np.random.default_rng(texture).standard_normal((side, side, 3), dtype=np.float32)
    image += world.noise * noise
    return np.rint(image.clip(0, 255)).astype(np.uint8)


def _background(side: int, rng: Random) -> NDArray[np.float32]:
    grey = rng.uniform(*_GREY)
    color = np.array([grey + rng.uniform(-_TINT, _TINT) for _ in "rgb"], dtype=np.float32)
    steps = np.linspace(-1, 1, side, dtype=np.float32)
    across, down = rng.uniform(-_SHADE, _SHADE), rng.uniform(-_SHADE, _SHADE)
    shade = np.float32(across) * steps[None, :] + np.float32(down) * steps[:, None]
    return color + shade[..., None]
