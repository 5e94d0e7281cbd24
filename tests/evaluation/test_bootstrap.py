from math import isqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.bootstrap import Pooled, estimate, ratio


def test_a_ratio_is_the_sum_of_its_parts_over_the_items_that_count():
    metric = ratio([1, 0, 1, 1], [1, 1, 0, 1])
    assert metric.value == pytest.approx(2 / 3)
    assert metric.n == 3


def test_a_ratio_of_nothing_is_nan_with_n_zero():
    found = estimate(ratio([]))
    assert np.isnan(found.value)
    assert found.n == 0


def test_the_interval_is_close_to_the_normal_one_for_many_independent_items():
    values = np.arange(2000) % 10 < 7
    found = estimate(ratio(values), seed=1)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 2000)
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - half, abs=0.004)
    assert found.high == pytest.approx(0.7 + half, abs=0.004)


def test_items_of_one_image_count_as_one():
    values = np.repeat(np.arange(100) % 2, 20)
    alone = estimate(ratio(values))
    images = estimate(ratio(values), [n // 20 for n in range(2000)])
    assert images.high - images.low > 3 * (alone.high - alone.low)


def test_clusters_that_are_alike_are_drawn_as_those_that_are_not():
    right = np.arange(4000) % 10 < 7
    images = [n // 3 for n in range(4000)]
    alike = estimate(ratio(right), images)
    unlike = estimate(ratio(right + 1e-9 * np.arange(4000)), images)  # each one of a kind
    assert alike.low == pytest.approx(unlike.low, abs=0.002)
    assert alike.high == pytest.approx(unlike.high, abs=0.002)


def test_the_same_seed_gives_the_same_interval():
    metric = ratio(np.random.default_rng(0).random(50))
    assert estimate(metric, seed=3) == estimate(metric, seed=3)
    assert estimate(metric, seed=3) != estimate(metric, seed=4)


def test_all_right_has_the_exact_binomial_bound_and_not_an_empty_interval():
    found = estimate(ratio([1] * 20))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8316, abs=1e-4)  # Clopper-Pearson, 20 of 20


def test_all_wrong_is_bounded_by_clusters():
    found = estimate(ratio([0] * 20), [n % 4 for n in range(20)])
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 4))


def test_refuses_clusters_that_do_not_match_the_items():
    with pytest.raises(ValueError, match="3 items, 2 clusters"):
        estimate(ratio([1, 0, 1]), ["a", "b"])


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_value_lies_in_its_interval(items):
    found = estimate(ratio([right for right, _ in items]), [image for _, image in items])
    assert 0 <= found.low <= found.high <= 1
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_pooled_statistics_are_summed_before_they_become_a_value():
    images = [isqrt(n) for n in range(400)]  # of 1, 3, 5 ... items, alike within an image
    items = np.random.default_rng(0).uniform(1, 9, size=(20, 2))[images]
    pooled = Pooled(items, lambda sums: sums[..., 0] / sums[..., 1])
    as_ratio = estimate(ratio(items[:, 0], items[:, 1]), images)
    found = estimate(pooled, images)
    assert (found.value, found.n) == (pytest.approx(as_ratio.value), 400)
    assert (found.low, found.high) == pytest.approx((as_ratio.low, as_ratio.high), abs=0.02)


def test_pooled_statistics_of_nothing_are_nan_with_n_zero():
    found = estimate(Pooled(np.zeros((0, 2)), lambda sums: sums[..., 0]))
    assert np.isnan(found.value)
    assert found.n == 0
