import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import DataError
from locvlm.types import Box, Message, Point, Sample

PIXELS = st.floats(-1e4, 1e4)


def test_a_box_knows_its_center_and_area():
    box = Box(10, 20, 30, 60)
    assert box.center == Point(20, 40)
    assert box.area == 800


@pytest.mark.parametrize(
    "box", [Box(30, 20, 10, 60), Box(10, 60, 30, 20), Box(30, 60, 10, 20), Box(10, 20, 10, 60)]
)
def test_corners_in_the_wrong_order_hold_no_area(box):
    assert box.area == 0


@given(PIXELS, PIXELS, PIXELS, PIXELS)
def test_the_center_lies_between_the_corners_in_any_order(x1, y1, x2, y2):
    center = Box(x1, y1, x2, y2).center
    assert min(x1, x2) <= center.x <= max(x1, x2)
    assert min(y1, y2) <= center.y <= max(y1, y2)
    assert center == Box(x2, y2, x1, y1).center


@pytest.mark.parametrize("half", [{"image": b"pixels"}, {"size": (4, 3)}])
def test_an_image_comes_with_its_size_or_not_at_all(half):
    with pytest.raises(DataError, match="'photo' has an image or a size, but not both") as error:
        Sample("photo", "a.json, record 7", **half)
    assert error.value.where == "a.json, record 7"
    assert "text-only" in error.value.fix


def test_a_sample_may_be_an_image_or_text_only():
    assert Sample("photo", "a.json", image=b"pixels", size=(4, 3)).size == (4, 3)
    assert Sample("talk", "a.json").image is None


def test_samples_share_no_extras():
    one, other = Sample("one", "a.json"), Sample("other", "a.json")
    assert one.extra == {}
    assert one.extra is not other.extra


def test_tokens_weigh_one_unless_said_otherwise():
    message = Message("assistant", ("It is at ", Box(1, 2, 3, 4), "."))
    assert (message.weight, message.number_weights) == (1, ())
