from dataclasses import replace

import pytest

from locvlm.data import Draw, LocVLMDataModule, Source
from locvlm.data.leaks import read_benchmark
from locvlm.data.split_audit import audit_split
from locvlm.errors import ConfigError, DataError
from tests.data.conftest import annotated, picture, talked

ALL = [Draw(0, n, 0) for n in range(6)]


@pytest.fixture
def module(shards, processor):
    """A data module of conversations, and of more sources where they are given."""

    def make(samples, *, others=(), val=None, **options):
        train = {"talk": Source(str(shards(samples)))}
        if others:
            train["other"] = Source(str(shards(others, "other")))
        return LocVLMDataModule(processor, train, val, batch_size=2, **options)

    return make


def test_all_samples_are_read_and_the_drawn_ones_encoded(module):
    data = module(map(talked, range(6)), max_bad_samples=7)
    seen = []
    found = audit_split(data, "train", ["a"], ALL[:2], on_sample=lambda: seen.append(1))
    assert len(seen) == found.n_samples == found.sources[0].survey.n_samples == 6
    assert found.learned.n_samples == 2
    assert found.sources[0].name == "a"
    assert found.max_length == data.processor.max_length
    assert found.max_bad_samples == 7
    assert found.n_bad == 0


def test_sources_have_their_share_of_the_draws(module):
    data = module(map(talked, range(6)), others=map(talked, range(2)))
    found = audit_split(data, "train", ["a", "b"], [])
    assert [source.share for source in found.sources] == [0.75, 0.25]


def test_bad_samples_are_counted_once_however_they_are_found(module, tmp_path):
    no_image = replace(talked(0), image=b"no image")
    cut = replace(talked(1), image=picture(1)[:60])  # its header is whole
    data = module([no_image, cut, *map(talked, range(2, 6))])
    (tmp_path / "shards" / "000001.tar").write_bytes(b"")
    found = audit_split(data, "train", ["a"], [*ALL[:4], Draw(0, 1, 1)])
    assert len(found.sources[0].lost) == 2
    assert found.sources[0].survey.problems == {"bad": 1}
    assert found.n_bad == 4
    assert found.n_samples == 6
    assert [why.split(":")[0].split(",")[0] for why in found.bad[:3]] == [
        "sample is cut off",
        "sample is cut off",
        "not an image in a known format",
    ]
    assert "cannot be decoded" in found.bad[3]


def test_doubles_are_named_by_where_they_stand(module):
    samples = [talked(0), talked(1), replace(talked(2), key="talk 1"), *map(talked, range(3, 6))]
    samples[5] = replace(samples[5], image=samples[0].image)
    [source] = audit_split(module(samples), "train", ["a"], []).sources
    assert source.same_key.number == source.same_image.number == 1
    assert "talk.json, record 1" in source.same_key.first[0]
    assert "talk.json, record 2" in source.same_key.first[1]
    assert "talk.json, record 0" in source.same_image.first[0]
    assert "talk.json, record 5" in source.same_image.first[1]


def test_leaks_are_named_in_their_source(module, tmp_path):
    data = module(map(talked, range(3)), others=[annotated(7), talked(8)])
    folder = tmp_path / "benchmark"
    folder.mkdir()
    for n in (1, 7, 8, 99):
        (folder / f"{n}.png").write_bytes(picture(n))
    found = audit_split(data, "train", ["a", "b"], [], [read_benchmark(folder)])
    assert found.leaks[0].n_leaked == 3
    assert [named[:2] for named in found.leaked[0]] == [
        ("a", "talk 1"),
        ("b", "image 7"),
        ("b", "talk 8"),
    ]
    assert "talk.json, record 8" in found.leaked[0][2].where


def test_a_split_without_a_source_is_named(module):
    with pytest.raises(ConfigError, match="anything to learn") as error:
        audit_split(module([talked(0)]), "val", [], [])
    assert error.value.where == "data.val"
    assert "data.val.localization" in error.value.fix


def test_a_source_of_which_nothing_can_be_read_is_named(module, tmp_path):
    data = module(map(talked, range(3)), others=[talked(4)])
    audit_split(data, "train", ["a", "b"], [])
    (tmp_path / "other" / "000000.tar").unlink()
    with pytest.raises(DataError, match="no sample can be read: all 1") as error:
        audit_split(data, "train", ["a", "b"], [])
    assert error.value.where == str(tmp_path / "other")
