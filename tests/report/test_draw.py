import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from locvlm.report.draw import COLORS, draw_marks

ANY = st.floats(allow_nan=True, allow_infinity=True)


def box(*location, role="predicted", label=""):
    return {"role": role, "location": location, "label": label}


def has_color(picture, role):
    wanted = tuple(int(COLORS[role][n : n + 2], 16) for n in (1, 3, 5))
    return (np.asarray(picture) == wanted).all(axis=-1)


def test_a_tiny_image_is_enlarged_by_a_whole_factor_and_its_pixels_stay_squares():
    image = Image.new("RGB", (64, 32), "black")
    image.putpixel((3, 2), (255, 255, 255))
    picture = draw_marks(image, [], min_side=400)
    assert picture.size == (448, 224)
    assert np.asarray(picture)[14:21, 21:28].min() == 255
    assert np.asarray(picture).sum() == 7 * 7 * 255 * 3


def test_a_box_is_drawn_around_its_enlarged_pixels():
    picture = draw_marks(Image.new("RGB", (50, 50)), [box(10, 20, 30, 40)], min_side=400)
    rows, columns = np.nonzero(has_color(picture, "predicted"))
    assert (columns.min(), columns.max()) == pytest.approx((80, 240), abs=2)
    assert (rows.min(), rows.max()) == pytest.approx((160, 320), abs=2)


def test_a_large_image_is_made_smaller_on_demand_only():
    image = Image.new("RGB", (1000, 500))
    assert draw_marks(image, []).size == (1000, 500)
    picture = draw_marks(image, [box(500, 250, 1000, 500)], max_side=200)
    assert picture.size == (200, 100)
    rows, columns = np.nonzero(has_color(picture, "predicted"))
    assert (columns.min(), rows.min()) == pytest.approx((100, 50), abs=2)


def test_roles_have_their_own_colors_and_points_are_drawn():
    marks = [box(10, 10, 60, 60, role="true"), box(80, 80), box(5, 5, 95, 95, role="asked")]
    picture = draw_marks(Image.new("RGB", (400, 400)), marks)
    assert all(has_color(picture, role).any() for role in COLORS)


def test_labels_are_added_inside_the_picture_and_do_not_cover_each_other():
    image = Image.new("RGB", (400, 400))
    one = draw_marks(image, [box(0, 0, 400, 400, label="first")])
    two = draw_marks(image, [box(0, 0, 400, 400, label=text) for text in ("first", "second")])
    plain = draw_marks(image, [box(0, 0, 400, 400)])

    def label_pixels(picture):
        return int((np.asarray(picture) != np.asarray(plain)).any(axis=-1).sum())

    assert label_pixels(one) > 300
    assert label_pixels(two) > 1.8 * label_pixels(one)


def test_a_long_label_is_shortened():
    image = Image.new("RGB", (400, 400))
    picture = draw_marks(image, [box(0, 100, 50, 150, label="very long " * 50)])
    assert picture.size == (400, 400)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_any_kind_of_image_becomes_rgb(mode):
    assert draw_marks(Image.new(mode, (4, 4)), [box(1, 1, 3, 3)]).mode == "RGB"


@settings(max_examples=40, deadline=None)
@given(st.tuples(ANY, ANY, ANY, ANY), st.text(max_size=30), st.integers(1, 40))
def test_no_location_or_label_breaks_it(location, label, side):
    draw_marks(Image.new("RGB", (side, 7)), [box(*location, label=label)], min_side=40)
