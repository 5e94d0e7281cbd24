import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.coordinates import NFP
from locvlm.errors import ConfigError

UNIT = st.floats(0, 1)
BOX = (10 / 512, 120 / 512, 30 / 512, 145 / 512)  # the cat of the paper's supplement
CENTRE = (20 / 512, 132.5 / 512)


def test_encodes_the_papers_example():
    assert NFP().encode(BOX) == [0.0195, 0.2344, 0.0586, 0.2832]


def test_encodes_the_centre_of_the_papers_example():
    assert NFP().encode(CENTRE) == [0.0391, 0.2588]


def test_writes_the_three_decimals_of_the_slides():
    assert NFP(decimals=3).encode(BOX) == [0.020, 0.234, 0.059, 0.283]


def test_rounds_half_to_even():
    assert NFP(1).encode((0.25, 0.75)) == [0.2, 0.8]


@given(st.tuples(UNIT, UNIT, UNIT, UNIT), st.integers(1, 12))
def test_round_trip_stays_within_half_of_the_last_digit(box, decimals):
    codec = NFP(decimals)
    back = codec.decode(codec.encode(box))
    assert back == pytest.approx(box, rel=0, abs=0.5 * 10**-decimals + 1e-15)


@given(UNIT, st.integers(1, 12))
def test_text_loses_nothing_that_encoding_keeps(value, decimals):
    codec = NFP(decimals)
    [number] = codec.encode((value,))
    assert float(codec.format(number)) == number


def test_formats_all_decimals():
    assert [NFP(4).format(number) for number in (0.0, 0.5, 1.0)] == ["0.0000", "0.5000", "1.0000"]


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [([0, 1, 0.5], None), ([0, 1.0001], "out of range"), ([-0.0001, 0], "out of range")],
)
def test_says_what_is_wrong_with_numbers(numbers, problem):
    assert NFP().check(numbers) == problem


@pytest.mark.parametrize("decimals", [0, 13])
def test_refuses_decimals_that_cannot_be_written(decimals):
    with pytest.raises(ConfigError, match=f"1 to 12, got {decimals}"):
        NFP(decimals)
