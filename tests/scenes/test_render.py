from dataclasses import replace

import numpy as np
import pytest

from locvlm.scenes.render import render
from locvlm.scenes.scene import scenes
from locvlm.scenes.shapes import SHAPES
from locvlm.scenes.world import SceneObject
from locvlm.types import Box


@pytest.mark.parametrize("shape", SHAPES)
def test_the_box_is_the_extent_of_the_drawn_pixels(world, shape):
    # So loud a red that the faintest trace of it shows
    loud = replace(world, colors=world.colors | {"red": (60_000, 0, 0)}, noise=0.0)
    item = SceneObject(shape, "red", Box(20, 7, 37, 24))
    changed = (render(loud, [item], 5) != render(loud, [], 5)).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    drawn = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert drawn == (20, 7, 37, 24)


def test_an_object_has_its_color_inside(world):
    item = SceneObject("square", "blue", Box(10, 10, 30, 30))
    image = render(world, [item], 1)
    np.testing.assert_allclose(image[11:29, 11:29].mean(axis=(0, 1)), world.colors["blue"], atol=1)


def test_every_color_stands_out_from_every_background(world):
    grounds = [render(replace(world, noise=0.0), [], texture) for texture in range(300)]
    pixels = np.concatenate([ground.reshape(-1, 3)[::97] for ground in grounds]).astype(float)
    for color in world.colors.values():
        assert np.abs(pixels - np.array(color)).max(axis=1).min() > 45


def test_backgrounds_differ_and_are_the_same_for_a_seed(world):
    np.testing.assert_array_equal(render(world, [], 1), render(world, [], 1))
    assert (render(world, [], 1) != render(world, [], 2)).mean() > 0.9


def test_other_image_sizes_are_drawn_as_well(world):
    scene = next(scenes(replace(world, image_size=224), "train"))
    assert scene.image.shape == (224, 224, 3)
    assert all(item.box.x2 - item.box.x1 >= 45 for item in scene.objects)
