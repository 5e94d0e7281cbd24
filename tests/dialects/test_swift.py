import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.dialects import Phrase, Swift
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Point

SIZE = (1000, 500)
TEXTS = ["<image>Find it", "<ref-object><bbox> and <ref-object><bbox> play"]
OBJECTS = {"ref": ["a dog", "a woman"], "bbox": [[331.5, 61.4, 853.5, 494.8], [676.5, 85.8]]}
TURNS = [
    ("<image>Find it",),
    ("a dog", Box(331.5, 61.4, 853.5, 494.8), " and ", "a woman", Point(676.5, 85.8), " play"),
]


def test_placeholders_stand_for_the_objects_in_their_order():
    turns = Swift().read(TEXTS, OBJECTS, SIZE)
    assert turns == TURNS
    assert [type(part) for part in turns[1]] == [Phrase, Box, str, Phrase, Point, str]
    assert Swift().write(turns, SIZE) == (TEXTS, {**OBJECTS, "bbox_type": "real"})


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [("norm1", [0.3315, 0.1228, 0.8535, 0.9896]), ("norm1000", [332, 123, 854, 990])],
)
def test_numbers_may_be_shares_of_the_sides(kind, numbers):
    objects = {"bbox": [numbers], "bbox_type": kind}
    [[box]] = Swift().read(["<bbox>"], objects, SIZE)
    assert box == pytest.approx((331.5, 61.4, 853.5, 494.8), abs=0.6)
    assert Swift(kind).write([[box]], SIZE)[1]["bbox"] == [numbers]


def test_texts_without_locations_have_no_objects():
    assert Swift().read(["hello"], None, SIZE) == [("hello",)]
    assert Swift().write([("hello",)], SIZE) == (["hello"], {})


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (None, "0 bbox for 1 <bbox>"),
        ([], "no JSON object"),
        ({"bbox": [[1, 2], [3, 4]]}, "2 bbox for 1 <bbox>"),
        ({"bbox": [[1, 2]], "ref": ["a"]}, "1 ref for 0 <ref-object>"),
        ({"bbox": "1234"}, "objects.bbox is no list"),
        ({"bbox": [[1, 2, 3]]}, "neither two nor four"),
        ({"bbox": [[1, "2"]]}, "neither two nor four"),
        ({"bbox": [[10**400, 2]]}, "without end"),
        ({"bbox": [[float("nan"), 2]]}, "without end"),
        ({"bbox": [[2000, 0, 2001, 1]]}, "outside the image"),
        ({"bbox": [[1, 2]], "bbox_type": "norm7"}, "unknown bbox_type"),
        ({"bbox": [[1, 2]], "bbox_type": ["real"]}, "unknown bbox_type"),
        ({"bbox": [[1, 2]], "image_id": [1]}, "more images than one"),
    ],
)
def test_objects_that_do_not_fit_are_refused(objects, message):
    with pytest.raises(DataError, match=message):
        Swift().read(["<bbox>"], objects, SIZE)


def test_names_must_be_text():
    with pytest.raises(DataError, match="no text"):
        Swift().read(["<ref-object>"], {"ref": [7]}, SIZE)


def test_text_that_holds_a_placeholder_itself_cannot_be_written():
    with pytest.raises(DataError, match="itself"):
        Swift().write([["put <bbox> here"]], SIZE)


def test_an_unknown_type_is_refused():
    with pytest.raises(ConfigError, match="no bbox_type called 'pixels'"):
        Swift("pixels")


@pytest.mark.parametrize("kind", ["real", "norm1", "norm1000"])
@given(xs=st.lists(st.floats(0, 1000), min_size=2, max_size=2).map(sorted))
def test_what_is_written_is_read_within_the_worst_error(kind, xs):
    box = Box(xs[0], xs[0] / 2, xs[1], xs[1] / 2)
    [[read]] = Swift().read(*Swift(kind).write([[box]], SIZE), SIZE)
    error = Swift(kind).worst_error(SIZE)
    for axis in range(4):
        assert abs(read[axis] - box[axis]) <= error[axis % 2] + 1e-6
