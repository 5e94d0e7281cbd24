import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.coordinates import DIGA, IVB
from locvlm.errors import ConfigError

UNIT = st.floats(0, 1)
BOX = (10 / 512, 120 / 512, 30 / 512, 145 / 512)  # the cat of the paper's supplement
CENTRE = (20 / 512, 132.5 / 512)
GRIDS = st.sampled_from([(224, 14), (336, 14), (64, 8), (8, 8), (6, 2)])


def test_encodes_the_papers_example():
    assert DIGA(224).encode(BOX) == [0, 4, 3, 11, 6, 0]


def test_encodes_the_centre_of_the_papers_example():
    assert DIGA(224).encode(CENTRE) == [0, 4, 2, -5]


def test_encodes_the_full_image():
    assert DIGA(224).encode((0, 0, 1, 1)) == [8, 8, 119, 119, 105, 105]


@pytest.mark.parametrize(("bins", "cell", "grid"), [(224, 14, 16), (336, 14, 24), (64, 8, 8)])
def test_the_grid_has_a_cell_for_each_patch(bins, cell, grid):
    assert DIGA(bins, cell).grid == grid


def test_the_first_number_is_the_column_and_the_second_the_row():
    assert DIGA(224).encode((0.9, 0.1)) == [14, 1, 202 - 203, 22 - 21]


def test_the_far_edge_of_the_frame_belongs_to_the_last_cell():
    assert DIGA(224).encode((1.0, 1.0)) == [15, 15, 7, 7]


def test_the_cell_follows_the_real_valued_centre_not_the_rounded_one():
    just_left = (14 - 0.4) / 224
    assert DIGA(224).encode((just_left, 0)) == [0, 0, 14 - 7, -7]


@given(st.one_of(st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT, UNIT, UNIT)), GRIDS)
def test_decoding_recovers_the_integers_of_ivb_exactly(values, grid):
    codec, ivb = DIGA(*grid), IVB(grid[0])
    back = codec.decode(codec.encode(values))
    assert back == ivb.decode(ivb.encode(values))
    assert ivb.encode(back) == ivb.encode(values)


@given(st.one_of(st.tuples(UNIT, UNIT), st.tuples(UNIT, UNIT, UNIT, UNIT)), GRIDS)
def test_accepts_all_that_it_writes(values, grid):
    assert DIGA(*grid).check(DIGA(*grid).encode(values)) is None


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ([0, 4, 3, 11, 6, 0], None),
        ([0, 4, 2, -5], None),
        ([16, 4, 10, 11, -8, 0], "out of range"),
        ([0, -1, 3, 11, 6, 0], "out of range"),
        ([0, 4, 8, 11, 6, 0], "out of range"),
        ([15, 4, 0, 0, 8, 0], "out of range"),
        ([0, 4, float("inf"), 11, 6, 0], "out of range"),
        ([0.5, 4, 3, 11, 6, 0], "not integers"),
        ([0, 4, 3.5, 11, 6, 0], "not integers"),
    ],
)
def test_says_what_is_wrong_with_numbers(numbers, problem):
    assert DIGA(224).check(numbers) == problem


@pytest.mark.parametrize(("bins", "cell"), [(225, 14), (64, 14), (0, 14), (63, 7), (64, 0)])
def test_refuses_bins_that_do_not_divide_into_cells(bins, cell):
    with pytest.raises(ConfigError, match=f"{bins} bins do not divide into cells of {cell}"):
        DIGA(bins, cell)
