import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.coordinates import IVB
from locvlm.errors import ConfigError

UNIT = st.floats(0, 1)
BINS = st.sampled_from([1, 64, 224, 336, 1000])
BOX = (10 / 512, 120 / 512, 30 / 512, 145 / 512)  # the cat of the paper's supplement
CENTRE = (20 / 512, 132.5 / 512)


@pytest.mark.parametrize(("bins", "expected"), [(224, [4, 52, 13, 63]), (336, [7, 79, 20, 95])])
def test_encodes_the_papers_example(bins, expected):
    assert IVB(bins).encode(BOX) == expected


def test_encodes_the_centre_of_the_papers_example():
    assert IVB(224).encode(CENTRE) == [9, 58]


def test_encodes_the_normalized_box_of_the_slides():
    assert IVB(224).encode((0.019, 0.114, 0.920, 0.786)) == [4, 26, 206, 176]


def test_writes_both_ends_of_the_frame():
    assert IVB(224).encode((0.0, 0.0, 1.0, 1.0)) == [0, 0, 224, 224]


def test_rounds_half_to_even():
    assert IVB(2).encode((0.25, 0.75)) == [0, 2]


@given(st.tuples(UNIT, UNIT, UNIT, UNIT), BINS)
def test_round_trip_stays_within_half_a_bin(box, bins):
    codec = IVB(bins)
    back = codec.decode(codec.encode(box))
    assert back == pytest.approx(box, abs=0.5 / bins + 1e-12)


@given(st.data(), BINS)
def test_every_integer_comes_back_exactly(data, bins):
    numbers = data.draw(st.lists(st.integers(0, bins), min_size=2, max_size=4))
    assert IVB(bins).encode(IVB(bins).decode(numbers)) == numbers


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([0, 224, 13.0, 63], None),
        ([0, 225], "out of range"),
        ([-1, 0], "out of range"),
        ([float("inf"), 0], "out of range"),
        ([4.5, 52], "not integers"),
    ],
)
def test_says_what_is_wrong_with_numbers(numbers, problem):
    assert IVB(224).check(numbers) == problem


def test_refuses_zero_bins():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        IVB(0)
