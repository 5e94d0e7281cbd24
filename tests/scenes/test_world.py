from dataclasses import replace
from itertools import combinations
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.scenes.world import SceneObject, World
from locvlm.types import Box, Instance


@pytest.fixture(scope="module")
def layouts(world):
    return [world.draw(Random(seed)) for seed in range(500)]


def test_the_config_describes_the_default_world(world):
    colors = {word: tuple(rgb) for word, rgb in world.colors.items()}
    assert replace(world, shapes=tuple(world.shapes), colors=colors) == World()


def test_shapes_and_colors_are_distinct_within_a_scene(layouts):
    for objects in layouts:
        assert len({item.shape for item in objects}) == len(objects)
        assert len({item.color for item in objects}) == len(objects)


def test_scenes_hold_two_to_four_objects_about_equally_often(layouts):
    numbers = [len(objects) for objects in layouts]
    assert set(numbers) == {2, 3, 4}
    assert all(numbers.count(n) > 120 for n in (2, 3, 4))


def test_objects_lie_inside_the_image_with_a_gap_between_them(layouts):
    for objects in layouts:
        assert all(0 <= value <= 64 for item in objects for value in item.box)
        for first, second in combinations([item.box for item in objects], 2):
            gap_x = max(first.x1, second.x1) - min(first.x2, second.x2)
            gap_y = max(first.y1, second.y1) - min(first.y2, second.y2)
            assert max(gap_x, gap_y) >= 1


def test_sizes_stay_within_their_shares_of_the_image(layouts):
    sides = {item.box.x2 - item.box.x1 for objects in layouts for item in objects}
    assert (min(sides), max(sides)) == (13, 26)


def test_the_order_of_objects_says_nothing_about_their_places(layouts):
    left = [
        objects[0].box.center.x < objects[1].box.center.x
        for objects in layouts
        if objects[0].box.center.x != objects[1].box.center.x
    ]
    assert 0.43 < sum(left) / len(left) < 0.57


def test_an_object_is_an_instance_with_a_description():
    item = SceneObject("ring", "orange", Box(1, 2, 14, 15))
    assert item.instance() == Instance("ring", Box(1, 2, 14, 15), "orange ring")


def test_refuses_a_shape_that_it_cannot_draw():
    with pytest.raises(ConfigError, match="no shape named 'cirle'.*\n.*\n.*mean 'circle'"):
        World(shapes=["cirle", "star"])


def test_refuses_more_objects_than_it_can_tell_apart():
    with pytest.raises(ConfigError, match="cannot be told apart by 2 shapes and 8 colors"):
        World(shapes=["star", "ring"], max_objects=3)


@pytest.mark.parametrize("shares", [(0.0, 0.4), (0.4, 0.2), (0.2, 1.5)])
def test_refuses_sizes_that_are_no_shares(shares):
    with pytest.raises(ConfigError, match="cannot be drawn in 64 pixels"):
        World(min_side=shares[0], max_side=shares[1])


def test_refuses_to_search_forever_for_room():
    with pytest.raises(ConfigError, match="no room for 4 objects"):
        World(min_objects=4, min_side=0.6, max_side=0.6).draw(Random(0))
