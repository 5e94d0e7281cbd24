import numpy as np
import pytest

from locvlm.errors import ConfigError
from locvlm.patches import patch_labels
from locvlm.types import Box


def test_a_patch_takes_the_label_of_the_box_that_covers_most_of_it():
    boxes = [Box(0, 0, 8, 5), Box(0, 5, 12, 8)]
    labels = patch_labels(boxes, [3, 7], size=(16, 8), patch=8, min_cover=0.1)
    np.testing.assert_array_equal(labels, [[3, 7]])


def test_rows_go_down_and_columns_to_the_right():
    labels = patch_labels([Box(16, 0, 24, 8)], [1], size=(24, 16), patch=8)
    np.testing.assert_array_equal(labels, [[0, 0, 1], [0, 0, 0]])


def test_a_box_that_covers_little_of_a_patch_leaves_it_background():
    boxes = [Box(0, 0, 10, 8)]
    np.testing.assert_array_equal(patch_labels(boxes, [1], size=(16, 8), patch=8), [[1, 0]])
    loose = patch_labels(boxes, [1], size=(16, 8), patch=8, min_cover=0.25)
    np.testing.assert_array_equal(loose, [[1, 1]])


def test_a_small_box_wins_over_a_large_one_around_it():
    boxes = [Box(0, 0, 16, 16), Box(0, 0, 8, 8)]
    labels = patch_labels(boxes, [1, 2], size=(16, 16), patch=8)
    np.testing.assert_array_equal(labels, [[2, 1], [1, 1]])


def test_parts_outside_the_frame_do_not_count():
    labels = patch_labels([Box(-50, -50, 4, 8)], [1], size=(16, 8), patch=8)
    np.testing.assert_array_equal(labels, [[1, 0]])


def test_a_frame_without_boxes_is_background():
    assert not patch_labels([], [], size=(16, 8), patch=8).any()


def test_refuses_patches_that_do_not_fill_the_frame():
    with pytest.raises(ConfigError, match="patches of 7 pixels"):
        patch_labels([], [], size=(16, 8), patch=7)
