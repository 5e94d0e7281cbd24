import pytest

from locvlm.coordinates import IVB, parse
from locvlm.located import Located
from locvlm.types import Box, Point

PLACES = (Point(5, 6), Box(1, 2, 3, 4), Box(0, 0, 9, 9), Point(7, 8))


def test_boxes_are_told_from_points_and_keep_the_order_of_the_text():
    text = "At [50, 60], [10, 20, 30, 40], [0, 0, 90, 90] and [70, 80]."
    located = Located(PLACES, parse(text, IVB(100)))
    assert located.boxes == [Box(1, 2, 3, 4), Box(0, 0, 9, 9)]


@pytest.mark.parametrize("places", [(), (Point(5, 6),)])
def test_a_text_without_boxes_has_none(places):
    assert Located(places, parse("There is no such object.", IVB(100))).boxes == []
