from random import Random

from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.benchmarks.coco_spatial_forms import three_objects
from locvlm.spatial import opposite
from locvlm.types import Box, Instance


def instance(category, x):
    return Instance(category, Box(x - 1, 0, x + 1, 2))


def test_every_choice_of_three_is_drawn_and_the_same_for_a_seed():
    five = [instance(name, x) for name, x in zip("abcde", (10, 20, 50, 80, 90), strict=True)]

    def draw(seed):
        three = three_objects(five, (100, 100), "horizontal", Random(seed))
        return tuple(fact.instance.category for fact in three)

    assert len({draw(seed) for seed in range(99)}) == 8
    assert draw(5) == draw(5)


@given(st.lists(st.integers(1, 99), max_size=8), st.integers())
def test_three_objects_are_found_where_two_of_a_side_have_one_opposite(places, seed):
    instances = [instance(str(n), x) for n, x in enumerate(places)]
    found = three_objects(instances, (100, 100), "horizontal", Random(seed))
    left, right = sum(x < 40 for x in places), sum(x > 60 for x in places)
    assert (found is not None) == (left + right >= 3 and min(left, right) >= 1)
    if found:
        assert found[1].side == found[2].side == opposite(found[0].side)
        assert len({fact.instance.category for fact in found}) == 3
