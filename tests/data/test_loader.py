from collections import Counter
from functools import partial
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data import BadSamples, BatchSampler, Examples, Loader, Source, collate
from locvlm.data.mixture import Draw, Mixture
from locvlm.data.packing import pack
from locvlm.errors import ConfigError, DataError
from tests.data.conftest import annotated, talked

N = 11


@pytest.fixture
def loader(shards, processor, objective):
    """Makes loaders of batches of two of the same 11 samples."""
    folders = {}

    def make(n_samples=N, *, num_workers=0, batch_size=2, seed=0, limit=0, join=collate, **options):
        if n_samples not in folders:
            folders[n_samples] = shards(map(annotated, range(n_samples)), f"of-{n_samples}")
        examples = Examples([Source(folders[n_samples], objective)], processor, seed=seed)
        return Loader(
            examples,
            BatchSampler(examples.mixture, batch_size, **options),
            partial(join, pad_id=processor.pad_id),
            bad_samples=BadSamples(limit),
            num_workers=num_workers,
        )

    return make


def seen(batches):
    """What tells batches apart: their tokens and images."""
    return [(b["input_ids"].tolist(), b["pixel_values"].sum((1, 2, 3)).tolist()) for b in batches]


def epochs(loader, *numbers):
    found = []
    for number in numbers:
        loader.sampler.set_epoch(number)
        found += seen(loader)
    return found


def test_an_epoch_has_as_many_batches_as_it_says_and_each_image_once(loader):
    loader = loader()
    batches = seen(loader)
    assert len(batches) == len(loader) == 6
    images = [image for _, images in batches for image in images]
    assert len(images) == len(set(images)) == N


def test_plain_loops_get_another_epoch_each_time(loader):
    one, other = loader(), loader()
    assert [*seen(one), *seen(one), *seen(one)] == epochs(other, 0, 1, 2)
    assert epochs(other, 0) != epochs(other, 1)


def test_validation_always_has_the_same_order(loader):
    fixed = loader(fixed=True)
    first = seen(fixed)
    fixed.sampler.set_epoch(3)
    assert seen(fixed) == first


def test_an_iteration_that_was_broken_off_begins_again(loader):
    loader = loader()
    first = seen(loader.__iter__())
    loader.sampler.set_epoch(0)
    next(iter(loader))
    assert seen(loader) == first


@pytest.mark.parametrize("n_done", range(7))
def test_goes_on_with_the_very_next_batch(loader, n_done):
    whole = epochs(loader(), 0, 1)
    stopped = loader()
    batches = iter(stopped)
    first = seen(next(batches) for _ in range(n_done))
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    rest = seen(resumed)
    rest += [] if n_done == 6 else seen(resumed)
    assert first + rest == whole


@pytest.mark.parametrize(("before", "after"), [(2, 2), (2, 0), (0, 2), (2, 1)])
def test_goes_on_exactly_with_any_number_of_workers(loader, before, after):
    whole = epochs(loader(), 0, 1)
    stopped = loader(num_workers=before)
    batches = iter(stopped)
    first = seen(next(batches) for _ in range(2))
    resumed = loader(num_workers=after)
    resumed.load_state_dict(stopped.state_dict())
    assert first + seen(resumed) + seen(resumed) == whole


def test_setting_the_epoch_that_was_interrupted_keeps_the_place_and_another_leaves_it(loader):
    stopped = loader()
    batches = iter(stopped)
    next(batches)
    for epoch, n_left in ((0, 5), (1, 6)):
        resumed = loader()
        resumed.load_state_dict(stopped.state_dict())
        resumed.sampler.set_epoch(epoch)
        assert len(seen(resumed)) == n_left


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_and_workers_read_each_sample_once(loader, world_size, num_workers):
    ranks = [
        seen(loader(12, rank=rank, world_size=world_size, num_workers=num_workers))
        for rank in range(world_size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    images = [image for batches in ranks for _, images in batches for image in images]
    assert len(images) == len(set(images)) == 12


def test_ranks_get_as_many_batches_of_one_size_where_the_samples_do_not_divide(loader):
    ranks = [loader(N, rank=rank, world_size=3) for rank in range(3)]
    sizes = [[len(images) for _, images in seen(rank)] for rank in ranks]
    assert sizes == [[2, 2]] * 3
    assert {len(rank) for rank in ranks} == {2}


def test_the_state_of_the_first_rank_serves_all(loader):
    make = partial(loader, 12, world_size=2)
    whole = [seen(make(rank=rank)) for rank in range(2)]
    stopped = make(rank=0)
    batches = iter(stopped)
    next(batches)
    for rank in range(2):
        resumed = make(rank=rank)
        resumed.load_state_dict(stopped.state_dict())
        assert seen(resumed) == whole[rank][1:]


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
def test_a_step_takes_the_next_draws_however_many_ranks_share_them(n, ranks, batch_size, number):
    mixture = Mixture([[n]])
    dealt = []
    for rank in range(ranks):
        sampler = BatchSampler(mixture, batch_size, rank=rank, world_size=ranks)
        sampler.set_epoch(number)
        dealt.append(list(sampler))
        assert len(dealt[-1]) == len(sampler)
    order = [Draw(*row) for row in mixture.epoch(number).tolist()]
    taken = 0
    for step in zip(*dealt, strict=True):
        assert len({len(batch) for batch in step}) == 1
        own = [draw for draws in zip(*step, strict=True) for draw in draws]
        assert own[: len(order) - taken] == order[taken : taken + len(own)]
        taken += len(own)
    assert len(order) <= taken < len(order) + ranks


@pytest.mark.parametrize(
    ("before", "after"), [((4, 1), (2, 2)), ((1, 4), (2, 2)), ((2, 2), (1, 4))]
)
def test_goes_on_exactly_with_other_processes_that_take_as_many_samples_per_step(
    loader, before, after
):
    def images(world_size, batch_size, state=None, stop=None):
        """Of each step, sorted; and the state of the first rank at the end."""
        ranks = [
            loader(rank=rank, world_size=world_size, batch_size=batch_size)
            for rank in range(world_size)
        ]
        for rank in ranks:
            if state is not None:
                rank.load_state_dict(state)
        dealt = [[shown for _, shown in seen(islice(rank, stop))] for rank in ranks]
        steps = [sorted(sum(step, [])) for step in zip(*dealt, strict=True)]
        return steps, ranks[0].state_dict()

    whole, _ = images(1, 4)
    first, state = images(*before, stop=1)
    rest, _ = images(*after, state=state)
    assert [*first, *rest][:2] == whole[:2]
    assert set(whole[2]) <= set(rest[-1])  # and what fills the ranks' last batches


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_packed_ranks_share_epochs_of_any_length_and_go_on_exactly(loader, world_size, num_workers):
    # 23 samples: epochs of 24 draws, whose last is the first of the next epoch
    options = {"batch_size": 5, "world_size": world_size, "num_workers": num_workers, "join": pack}
    ranks = [partial(loader, 23, rank=rank, **options) for rank in range(world_size)]
    whole = [epochs(make(), 0, 1) for make in ranks]
    assert {len(batches) for batches in whole} == {2 * len(ranks[0]())}
    times = Counter(image for batches in whole for _, images in batches for image in images)
    assert sum(times.values()) == 48
    assert set(times.values()) <= {2, 3, 4}
    assert all(len(batches[0][0]) < len(batches[0][1]) for batches in whole)  # they share rows
    for n_done in range(len(ranks[0]()) + 1):
        states = []
        for make, batches in zip(ranks, whole, strict=True):
            stopped = make()
            assert seen(islice(stopped, n_done)) == batches[:n_done]
            states.append(stopped.state_dict())
        assert states == [states[0]] * world_size
        for make, batches in zip(ranks, whole, strict=True):
            resumed = make()
            resumed.load_state_dict(states[0])
            rest = seen(resumed)
            assert rest + (seen(resumed) if n_done < len(resumed) else []) == batches[n_done:]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 3}, "samples per step was 2 and is 3"),
        ({"world_size": 2}, "samples per step was 2 and is 4"),
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"n_samples": 12}, r"shards was \[11\] and is \[12\]"),
    ],
)
def test_a_changed_run_cannot_go_on_within_an_epoch_but_between_epochs(loader, changed, message):
    stopped = loader()
    batches = iter(stopped)
    next(batches)
    with pytest.raises(ConfigError, match=f"epoch: {message}(?s:.*)interrupted run"):
        loader(**changed).load_state_dict(stopped.state_dict())
    for _ in batches:
        pass
    resumed = loader(**changed)
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.sampler.epoch == 1
    assert len(seen(resumed)) == len(resumed)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_samples_are_counted_once_and_stop_the_run_past_the_limit(
    shards, processor, num_workers, caplog
):
    folder = shards(map(talked, range(6)))
    data = (folder / "000000.tar").read_bytes()
    (folder / "000000.tar").write_bytes(data.replace(b"\x89PNG", b"\x00PNG", 2))

    def make(limit):
        examples = Examples([Source(folder)], processor)
        bad_samples = BadSamples(limit)
        collating = partial(collate, pad_id=processor.pad_id)
        sampler = BatchSampler(examples.mixture, 2)
        options = {"bad_samples": bad_samples, "num_workers": num_workers}
        return Loader(examples, sampler, collating, **options), bad_samples

    loader, bad_samples = make(2)
    for _ in range(3):
        assert [len(images) for _, images in seen(loader)] == [2, 2, 2]
    assert len(bad_samples) == 2
    assert caplog.text.count("skips a bad sample") == 1
    loader, _ = make(1)
    with pytest.raises(DataError, match=r"2 bad samples, 1 allowed(?s:.*)sample 000000"):
        seen(loader)


def test_samples_cut_off_count_as_bad(loader, shards, processor):
    folder = shards(map(talked, range(8)))
    (folder / "000001.tar").unlink()
    examples = Examples([Source(folder)], processor)
    with pytest.raises(DataError, match=r"3 bad samples, 2 allowed(?s:.*)000001\.tar"):
        Loader(examples, BatchSampler(examples.mixture, 2), list, bad_samples=BadSamples(2))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_data_with_nothing_to_learn_stops_with_the_way_to_look_at_it(
    shards, processor, num_workers
):
    from locvlm.objectives import LocPred, Mix

    folder = shards([annotated(0)])
    nothing = Mix([LocPred(["{category}?"])], [1], turns=1)
    silent = Source(shards([talked(0)], "silent"), nothing)
    examples = Examples([silent], processor)
    assert folder
    loader = Loader(
        examples,
        BatchSampler(examples.mixture, 1),
        partial(collate, pad_id=processor.pad_id),
        bad_samples=BadSamples(0),
        num_workers=num_workers,
    )
    said = r"nothing to learn(?s:.*)locvlm\.audit(?s:.*)conversation\.shards"
    with pytest.raises(DataError, match=said):
        seen(loader)
