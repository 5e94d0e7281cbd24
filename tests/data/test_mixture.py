import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data import Mixture
from locvlm.errors import ConfigError

SHARDS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda shards: sum(shards) > 0)


def draws(mixture, number, **options):
    return [tuple(row) for row in mixture.epoch(number, **options).tolist()]


@given(SHARDS, st.integers(0, 9), st.integers(1, 4), st.integers(0, 5))
def test_an_epoch_of_one_source_holds_each_sample_once(shards, seed, window, number):
    mixture = Mixture([shards], seed=seed, window=window)
    assert sorted(draws(mixture, number)) == [(0, n, number) for n in range(sum(shards))]


@given(st.lists(SHARDS, min_size=1, max_size=3), st.integers(0, 3))
def test_without_weights_an_epoch_holds_each_sample_of_all_sources_once(sources, number):
    found = draws(Mixture(sources), number)
    assert sorted(found) == [
        (source, n, number) for source, shards in enumerate(sources) for n in range(sum(shards))
    ]


@given(SHARDS, st.integers(1, 40), st.integers(0, 3))
def test_no_sample_comes_twice_before_all_others_came_once(shards, epoch_length, seed):
    mixture = Mixture([shards], epoch_length=epoch_length, seed=seed)
    endless = [draw for number in range(6) for draw in draws(mixture, number)]
    total = sum(shards)
    for start in range(0, len(endless) - total + 1, total):
        assert {sample for _, sample, _ in endless[start : start + total]} == set(range(total))
    assert [turn for *_, turn in endless] == [n // total for n in range(len(endless))]


def test_weights_are_kept_whatever_the_sizes():
    mixture = Mixture([[1000], [10, 10]], [3, 1], epoch_length=100)
    assert mixture.counts() == [75, 25]
    sources = mixture.epoch(0)[:, 0]
    assert (sources == 1).sum() == 25
    assert 0.1 < (sources[:50] == 1).mean() < 0.45  # mixed, not one after the other


def test_orders_are_the_same_in_every_process_and_differ_by_seed_and_epoch():
    mixture = Mixture([[50], [50]], [1, 1], seed=3)
    again = Mixture([[50], [50]], [1, 1], seed=3)
    assert draws(mixture, 2) == draws(again, 2)
    assert draws(mixture, 2) != draws(mixture, 3)
    assert draws(mixture, 2) != draws(Mixture([[50], [50]], [1, 1], seed=4), 2)


def test_an_order_stays_as_it_is_from_version_to_version():
    expected = [(0, 4, 1), (1, 1, 1), (0, 2, 1), (1, 0, 1), (0, 0, 1), (0, 1, 1), (0, 3, 1)]
    assert draws(Mixture([[3, 2], [2]], seed=1), 1) == expected


def test_only_the_shards_of_a_window_are_read_at_a_time():
    order = Mixture([[10] * 12], window=3).epoch(0)[:, 1] // 10
    for start in range(0, 120, 30):
        assert len(set(order[start : start + 30].tolist())) == 3


def test_other_sources_between_them_do_not_widen_the_window():
    mixture = Mixture([[10] * 12, [40]], window=3)
    epoch = mixture.epoch(0)
    order = epoch[epoch[:, 0] == 0, 1] // 10
    assert len(set(order[:30].tolist())) == 3


def test_within_a_window_neighbours_are_torn_apart():
    order = Mixture([[100] * 4], window=4).epoch(0)[:, 1]
    assert abs(np.corrcoef(order, np.arange(400))[0, 1]) < 0.15
    assert (np.abs(np.diff(order)) == 1).mean() < 0.02


N_MANY = 10_000


@pytest.fixture(scope="module")
def places():
    """(40, N_MANY) the place of each sample of 100 shards of 100 in each of 40 epochs."""
    mixture = Mixture([[100] * 100])
    return np.stack([np.argsort(mixture.epoch(number)[:, 1]) for number in range(40)])


def displacement(places, others):
    """Mean distance between the places of each sample, as a share of that of random orders."""
    return np.abs(places - others).mean() / (N_MANY / 3)


def test_samples_stand_where_they_would_in_a_full_permutation(places):
    stored = np.arange(N_MANY)
    assert displacement(places, stored) == pytest.approx(1, abs=0.02)
    assert displacement(places[1:], places[:-1]) == pytest.approx(1, abs=0.02)
    correlations = [np.corrcoef(epoch, stored)[0, 1] for epoch in places]
    assert abs(np.mean(correlations)) < 0.03
    assert np.std(correlations) < 0.12  # 1 / sqrt(100 shards) = 0.10


def test_over_epochs_no_shard_keeps_to_a_part_of_them(places):
    shards = places.reshape(40, 100, 100).swapaxes(0, 1).reshape(100, 4_000)
    # A random order's means over 40 epochs deviate by N_MANY / sqrt(12 * 40) = 456
    assert shards.mean(axis=1).std() < 600
    tenths = [np.bincount(shard * 10 // N_MANY).max() / 4_000 for shard in shards]
    assert max(tenths) < 0.25


def test_stored_neighbours_seldom_follow_each_other_and_stay_within_a_window(places):
    orders = np.argsort(places, axis=1)
    assert (np.abs(np.diff(orders, axis=1)) == 1).mean() < 0.002
    gaps = np.abs(np.diff(places.reshape(40, 100, 100), axis=2))
    assert gaps.max() < 1_600
    assert gaps.mean() == pytest.approx(1_600 / 3, rel=0.05)
    batches = orders[:, : N_MANY // 32 * 32].reshape(-1, 32) // 100
    assert np.mean([len(set(batch)) for batch in batches.tolist()]) > 13  # shards


def test_sources_are_mixed_by_weight_all_through_an_epoch():
    mixture = Mixture([[100] * 100, [100] * 25], [3, 1])
    for number in range(5):
        sources = mixture.epoch(number)[:, 0]
        shares = [(tenth == 1).mean() for tenth in np.split(sources, 10)]
        assert shares == pytest.approx([0.25] * 10, abs=0.04)  # 3 standard deviations
        changes = np.flatnonzero(np.diff(sources, prepend=-1, append=-1))
        lengths, starts = np.diff(changes), sources[changes[:-1]]
        assert lengths[starts == 0].max() < 50
        assert lengths[starts == 1].max() < 12


@pytest.mark.parametrize(
    ("shards", "options", "message"),
    [
        ([[5]], {"weights": [1, 2]}, "as many weights"),
        ([[5]], {"weights": [-1]}, "at least 0"),
        ([[5]], {"weights": [0]}, "nothing to draw"),
        ([[0]], {}, "nothing to draw"),
        ([[5]], {"epoch_length": 0}, "nothing to draw"),
        ([], {}, "nothing to draw"),
        ([[5], [0]], {"weights": [1, 1]}, "no place"),
        ([[5], [5]], {"weights": [1000, 1]}, "no place(?s:.*)epoch_length"),
    ],
)
def test_mistakes_are_named(shards, options, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(shards, **options)
