import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from locvlm.errors import DataError
from locvlm.geometry import Geometry, clip, crop, pad, resize, to_location, visible_part
from locvlm.images import to_frame
from locvlm.types import Box, Instance, Point, Sample

SIDE = 48
MODES = [resize, pad, crop]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000))
UNIT = st.floats(0, 1)


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        (resize, (640, 480), Geometry(0, 0, 640, 480)),
        (pad, (640, 480), Geometry(0, 80, 640, 640)),
        (pad, (480, 640), Geometry(80, 0, 640, 640)),
        (pad, (640, 427), Geometry(0, 106, 640, 640)),
        (crop, (640, 480), Geometry(-80, 0, 480, 480)),
        (crop, (480, 640), Geometry(0, -80, 480, 480)),
        (crop, (640, 427), Geometry(-106, 0, 427, 427)),
        (pad, (1, 1), Geometry(0, 0, 1, 1)),
    ],
)
def test_names_the_area_that_fills_the_frame(mode, size, expected):
    assert mode(*size) == expected


def test_padding_follows_the_formula_for_odd_differences():
    # x' = (x + (S - W) // 2) / S with W = 427, S = 640
    frame = pad(427, 640).to_frame(Box(0, 0, 427, 640))
    assert frame == (106 / 640, 0, 533 / 640, 1)


def test_a_flip_mirrors_boxes_and_keeps_their_corners_in_order():
    flipped = resize(100, 50).flip()
    assert flipped.to_frame(Box(10, 5, 30, 20)) == pytest.approx((0.7, 0.1, 0.9, 0.4))
    assert flipped.to_frame(Point(10, 5)) == pytest.approx((0.9, 0.1))


def test_two_flips_are_none():
    assert pad(3, 4).flip().flip() == pad(3, 4)


def test_what_a_crop_cuts_off_lies_outside_the_frame():
    frame = crop(200, 100).to_frame(Box(0, 0, 100, 100))
    assert frame == (-0.5, 0, 0.5, 1)


@every_mode
@given(size=sizes, corners=st.tuples(UNIT, UNIT, UNIT, UNIT), flipped=st.booleans())
def test_locations_come_back_from_the_frame(mode, size, corners, flipped):
    geometry = mode(*size).flip() if flipped else mode(*size)
    box = Box(*(v * s for v, s in zip(corners, size * 2, strict=True)))
    for location in (box, Point(box.x1, box.y2)):
        back = geometry.from_frame(geometry.to_frame(location))
        assert type(back) is type(location)
        assert back == pytest.approx(location, abs=1e-9)


@st.composite
def pictures(draw):
    """A size, and a box of whole pixels in it that is not too thin to be found again."""
    width, height = draw(st.integers(24, 120)), draw(st.integers(24, 120))
    x1, y1 = draw(st.integers(0, width - 12)), draw(st.integers(0, height - 12))
    x2, y2 = draw(st.integers(x1 + 12, width)), draw(st.integers(y1 + 12, height))
    return (width, height), Box(x1, y1, x2, y2)


@every_mode
@given(picture=pictures(), flipped=st.booleans())
def test_boxes_and_images_move_together(mode, picture, flipped):
    (width, height), box = picture
    geometry = mode(width, height).flip() if flipped else mode(width, height)
    expected = [min(1, max(0, v)) * SIDE for v in geometry.to_frame(box)]
    assume(min(expected[2] - expected[0], expected[3] - expected[1]) > 3)
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, box.y1 : box.y2, box.x1 : box.x2] = 255

    frame = to_frame(image, geometry, SIDE, fill=(0, 0, 0))

    assert bright_box(frame) == pytest.approx(expected, abs=0.75)


def bright_box(frame):
    """The far edges of all pixels that are more white than black."""
    ys, xs = torch.nonzero(frame[0] > 127, as_tuple=True)
    return [xs.min().item(), ys.min().item(), xs.max().item() + 1, ys.max().item() + 1]


@pytest.mark.parametrize(
    ("box", "share"),
    [
        (Box(60, 10, 140, 90), 1.0),
        (Box(0, 0, 100, 100), 0.5),
        (Box(40, 0, 60, 100), 0.5),
        (Box(0, 0, 50, 100), 0.0),
        (Box(0, 0, 200, 100), 0.5),
        (Box(70, 10, 70, 90), 0.0),
    ],
)
def test_a_crop_says_how_much_of_a_box_it_shows(box, share):
    assert crop(200, 100).visible(box) == share
    assert crop(200, 100).flip().visible(box) == share


def test_a_crop_cuts_boxes_to_what_it_shows():
    assert crop(200, 100).seen(Box(40, 10, 180, 90)) == Box(50, 10, 150, 90)
    assert crop(100, 200).flip().seen(Box(10, 40, 90, 180)) == Box(10, 50, 90, 150)


@pytest.mark.parametrize("mode", [resize, pad])
def test_resize_and_pad_show_all_of_every_box(mode):
    assert mode(201, 100).visible(Box(0, 0, 201, 100)) == 1


def test_clip_moves_locations_into_the_image():
    assert clip(Box(-3, 4, 20, 99), (10, 50)) == Box(0, 4, 10, 50)
    assert clip(Point(12, -1), (10, 50)) == Point(10, 0)


@every_mode
def test_refuses_images_without_pixels(mode):
    with pytest.raises(DataError, match="no frame can show an area of 0 x 0 pixels"):
        mode(0, 0)


def test_refuses_images_without_height():
    with pytest.raises(DataError, match="no frame can show an area of 5 x 0 pixels"):
        resize(5, 0)


def test_crop_drops_what_it_cuts_off_and_clips_the_rest():
    boxes = {"gone": (0, 0, 30, 20), "cut": (20, 0, 60, 20), "whole": (50, 0, 60, 20)}
    instances = tuple(Instance(name, Box(*box)) for name, box in boxes.items())
    sample = Sample("k", "test", image=b"any", size=(128, 64), instances=instances)
    seen = visible_part(sample, crop).instances
    assert [(one.category, one.box.x1) for one in seen] == [("cut", 32), ("whole", 50)]
    assert visible_part(sample, resize) is sample


@pytest.mark.parametrize("values", [Box(0, 0, 60, 40), Point(60, 0)])
def test_a_place_may_reach_the_edges_of_the_image(values):
    assert to_location(list(values), (60, 40)) == values
    assert type(to_location(list(values), (60, 40))) is type(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "neither a box nor a point"),
        ([], "neither a box nor a point"),
        ([0, 0, 60, 41], "60 x 40 pixels"),
        ([-1, 0], "60 x 40 pixels"),
        ([float("nan"), 1, 2, 3], "60 x 40 pixels"),
        ([0, 0, float("inf"), 3], "60 x 40 pixels"),
        ([3, 2, 1, 4], "has no area"),
        ([3, 2, 3, 4], "has no area"),
    ],
)
def test_what_is_no_place_in_the_image_is_refused(values, message):
    with pytest.raises(DataError, match=message) as error:
        to_location(values, (60, 40), "--box")
    assert error.value.where == "--box"
