from dataclasses import replace

import pytest

from locvlm.data import Draw, Examples, Source
from locvlm.errors import ConfigError, DataError
from locvlm.objectives import LocPred, Mix
from locvlm.types import Box, Instance
from tests.data.conftest import annotated, talked


def same(one, other):
    return all(one[name].equal(other[name]) for name in other)


def test_finished_conversations_are_encoded_as_they_stand(shards, processor):
    examples = Examples([Source(shards(map(talked, range(3))))], processor)
    loaded = examples[Draw(0, 1, 0)]
    assert loaded["skipped"] == []
    assert same(loaded["example"], processor.encode(talked(1), talked(1).messages))


def test_objectives_are_drawn_afresh_on_each_pass_and_the_same_in_each_run(
    shards, processor, objective
):
    folder = shards(map(annotated, range(3)))
    examples = Examples([Source(folder, objective)], processor, seed=1)
    asked = [examples.sample(Draw(0, 1, turn))[1] for turn in range(6)]
    assert len({str(messages) for messages in asked}) > 2
    again = Examples([Source(folder, objective)], processor, seed=1)
    assert [again.sample(Draw(0, 1, turn))[1] for turn in range(6)] == asked
    other = Examples([Source(folder, objective)], processor, seed=2)
    assert [other.sample(Draw(0, 1, turn))[1] for turn in range(6)] != asked


def test_what_a_sample_is_asked_does_not_depend_on_where_it_stands(shards, processor, objective):
    samples = [annotated(n) for n in range(3)]
    one = Examples([Source(shards(samples, "a"), objective)], processor)
    other = Examples([Source(shards(samples[::-1], "b", 1), objective)], processor)
    assert one.sample(Draw(0, 0, 4))[1] == other.sample(Draw(0, 2, 4))[1]


def test_a_bad_sample_gives_its_place_to_another_and_is_named(shards, processor):
    samples = [talked(0), replace(talked(1), image=b"no image"), talked(2)]
    examples = Examples([Source(shards(samples))], processor)
    loaded = examples[Draw(0, 1, 0)]
    assert "talk.json, record 1" in loaded["skipped"][0]
    assert any(
        same(loaded["example"], processor.encode(talked(n), talked(n).messages)) for n in (0, 2)
    )
    assert same(examples[Draw(0, 1, 0)]["example"], loaded["example"])


def test_a_sample_that_nothing_can_be_asked_about_gives_its_place_but_is_not_bad(shards, processor):
    twice = annotated(1).instances * 2
    samples = [annotated(0), replace(annotated(1), instances=twice)]
    objective = Mix([LocPred(["Where is {category}?"])], [1])
    examples = Examples([Source(shards(samples), objective)], processor)
    loaded = examples[Draw(0, 1, 0)]
    assert loaded["skipped"] == []
    assert (loaded["example"]["labels"] >= 0).any()


def test_a_batch_is_the_same_as_its_examples_one_by_one(shards, processor):
    twice = annotated(2).instances * 2  # which of the two, nobody could say
    samples = [
        annotated(0),
        replace(annotated(1), image=b"no image"),
        replace(annotated(2), instances=twice),
        annotated(3),
    ]
    objective = Mix([LocPred(["Where is {category}?"])], [1])
    examples = Examples([Source(shards(samples), objective)], processor)
    draws = [Draw(0, n, turn) for turn in range(2) for n in range(4)]
    batch = examples.__getitems__(draws)
    assert [one["draw"] == draw for one, draw in zip(batch, draws, strict=True)] == [1, 0, 0, 1] * 2
    assert batch[1]["skipped"]
    for draw, one in zip(draws, batch, strict=True):
        alone = examples[draw]
        assert (one["draw"], one["skipped"]) == (alone["draw"], alone["skipped"])
        assert same(one["example"], alone["example"])


def test_data_with_nothing_to_learn_gives_no_example(shards, processor):
    question_only = replace(talked(0), messages=talked(0).messages[:1])
    examples = Examples([Source(shards([question_only]))], processor)
    assert examples[Draw(0, 0, 0)] == {"example": None, "skipped": [], "draw": Draw(0, 0, 0)}


def test_samples_cut_off_are_named_and_not_drawn(shards, processor):
    folder = shards(map(talked, range(8)))
    (folder / "000000.tar").unlink()
    examples = Examples([Source(folder)], processor)
    assert len(examples) == 4
    assert len(examples.unreadable) == 4
    keys = {examples.sample(Draw(*row))[0].key for row in examples.mixture.epoch(0).tolist()}
    assert keys == {f"talk {n}" for n in range(4, 8)}


def test_sources_without_folder_share_or_question_are_left_out(shards, processor, objective):
    folder = shards([talked(0)])
    sources = [
        Source(None),
        Source("nowhere", weight=0),
        Source("nowhere", Mix([], []), weight=2),
        Source(folder, weight=1),
    ]
    assert Examples(sources, processor).sources == [sources[3]]


def test_weights_are_given_to_all_sources_or_to_none(shards, processor):
    folder = shards([talked(0)])
    with pytest.raises(ConfigError, match="some sources have a weight"):
        Examples([Source(folder, weight=1), Source(folder)], processor)


def test_objects_that_a_crop_cuts_away_are_not_asked_for(shards):
    from locvlm.geometry import crop
    from tests.tiny import make_processor

    processor = make_processor()
    processor.geometry = crop
    hidden = Instance("circle", Box(0, 0, 3, 40))
    folder = shards([replace(annotated(0), instances=(hidden,))])
    examples = Examples([Source(folder, Mix([LocPred(["{category}?"])], [1]))], processor)
    assert examples.sample(Draw(0, 0, 0))[1] == []


def test_a_damaged_sample_raises_where_it_is_asked_for_by_itself(shards, processor):
    folder = shards(map(talked, range(2)))
    data = bytearray((folder / "000000.tar").read_bytes())
    data[600] ^= 1
    (folder / "000000.tar").write_bytes(data)
    with pytest.raises(DataError, match="checksum"):
        Examples([Source(folder)], processor).sample(Draw(0, 0, 0))


def test_answers_of_finished_conversations_weigh_what_their_source_says(shards, processor):
    folder = shards(map(talked, range(2)))
    plain, heavy = (
        Examples([Source(folder, answer_weight=weight)], processor)[Draw(0, 1, 0)]["example"]
        for weight in (1.0, 4.0)
    )
    assert heavy["loss_weights"].equal(4 * plain["loss_weights"])
    assert heavy["labels"].equal(plain["labels"])
