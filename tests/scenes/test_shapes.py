from itertools import combinations

import numpy as np
import pytest

from locvlm.scenes.shapes import SHAPES, mask


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("side", [12, 13, 20, 26, 90])
def test_a_shape_touches_all_four_sides_of_its_box(shape, side):
    cover = mask(shape, side)
    assert cover.shape == (side, side)
    assert cover[0].any()
    assert cover[-1].any()
    assert cover[:, 0].any()
    assert cover[:, -1].any()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_symmetric_and_between_0_and_1(shape):
    cover = mask(shape, 20)
    np.testing.assert_allclose(cover, cover[:, ::-1], atol=0.05)
    assert 0 <= cover.min() <= cover.max() == 1


def test_edges_are_anti_aliased():
    cover = mask("circle", 20)
    assert ((cover > 0.1) & (cover < 0.9)).sum() > 20


def test_the_circle_covers_its_area():
    assert mask("circle", 20).sum() == pytest.approx(np.pi * 100, rel=0.01)


@pytest.mark.parametrize(("one", "other"), list(combinations(SHAPES, 2)))
def test_the_smallest_shapes_can_be_told_apart(one, other):
    first, second = mask(one, 13), mask(other, 13)
    overlap = np.minimum(first, second).sum() / np.maximum(first, second).sum()
    assert overlap < 0.82


def test_masks_are_shared_and_read_only():
    assert mask("star", 15) is mask("star", 15)
    with pytest.raises(ValueError, match="read-only"):
        mask("star", 15)[0, 0] = 1
