"""What holds for every scheme: many boxes at once give what one box gives, in every bit."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.coordinates import DIGA, IVB, NFP

SCHEMES = [NFP(3), NFP(4), IVB(2), IVB(64), IVB(224), IVB(336), DIGA(64, 8), DIGA(224), DIGA(336)]
every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=str)


def halves_and_edges(scheme):
    """Values on a scheme's rounding and cell borders, and their nearest neighbours."""
    steps = getattr(scheme, "bins", 10 ** getattr(scheme, "decimals", 0))
    borders = [k / 2 / steps for k in range(2 * steps + 1)[:2001]]
    near = [math.nextafter(v, side) for v in borders for side in (0.0, 1.0)]
    return np.array([*borders, *near])


@every_scheme
def test_many_boxes_equal_one_by_one_on_every_border(scheme):
    values = halves_and_edges(scheme)
    order = np.random.default_rng(0).permuted(np.tile(values, (4, 1)), axis=1)
    boxes = np.vstack([order.T, np.tile(values[:, None], 4)])
    numbers = scheme.encode_boxes(boxes)
    assert numbers.tolist() == [scheme.encode(tuple(box)) for box in boxes.tolist()]
    one_by_one = [list(scheme.decode(row)) for row in numbers.tolist()]
    assert scheme.decode_boxes(numbers).tolist() == one_by_one


@every_scheme
@given(boxes=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=20))
def test_many_boxes_equal_one_by_one(scheme, boxes):
    numbers = scheme.encode_boxes(np.array(boxes))
    assert numbers.tolist() == [scheme.encode(box) for box in boxes]
    assert scheme.decode_boxes(numbers).tolist() == [list(scheme.decode(n)) for n in numbers]


@every_scheme
def test_no_boxes_give_no_numbers(scheme):
    numbers = scheme.encode_boxes(np.empty((0, 4)))
    assert numbers.shape == (0, scheme.n_box)
    assert scheme.decode_boxes(numbers).shape == (0, 4)


@every_scheme
def test_counts_are_those_of_what_it_writes(scheme):
    assert len(scheme.encode((0.1, 0.2, 0.3, 0.4))) == scheme.n_box
    assert len(scheme.encode((0.1, 0.2))) == scheme.n_point


@pytest.mark.parametrize("scheme", [IVB(224), DIGA(224)], ids=str)
def test_bins_are_integers_in_arrays_too(scheme):
    assert scheme.encode_boxes(np.array([[0.1, 0.2, 0.3, 0.4]])).dtype == np.int64


def test_single_precision_boxes_round_like_double_precision_ones():
    boxes = ((np.arange(336, dtype=np.float32) + 0.5) / 336).reshape(-1, 4)
    assert IVB(336).encode_boxes(boxes).tolist() == [
        IVB(336).encode(tuple(map(float, box))) for box in boxes
    ]


def test_a_negative_zero_is_written_as_zero():
    numbers = NFP().encode_boxes(np.full((1, 4), -0.0))
    assert {NFP().format(number) for number in numbers[0]} == {"0.0000"}


@pytest.mark.parametrize("scheme", [NFP(), IVB(224), DIGA(224)], ids=str)
def test_a_million_boxes_are_no_loop_in_python(scheme):
    boxes = np.random.default_rng(0).random((1_000_000, 4))
    few = [tuple(box) for box in boxes[:5_000].tolist()]
    one_by_one = seconds(lambda: [scheme.decode(scheme.encode(box)) for box in few])
    at_once = seconds(lambda: scheme.decode_boxes(scheme.encode_boxes(boxes)))
    assert at_once / len(boxes) < one_by_one / len(few) / 2


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
