from dataclasses import replace

import pytest

from locvlm.data import write_shards
from locvlm.data.quarantine import Quarantine
from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.shards import ShardSource
from locvlm.types import Message


@pytest.fixture
def folder(sample, tmp_path):
    samples = [sample, replace(sample, key="second")]
    write_shards(samples, tmp_path / "shards", quarantine=Quarantine(), per_shard=1)
    return tmp_path / "shards"


def test_gives_the_prepared_samples(folder, sample):
    found = list(ShardSource(str(folder)).read(Quarantine()))
    assert [one.key for one in found] == ["photo", "second"]
    assert found[0].instances == sample.instances
    assert found[0].image == sample.image


def test_stops_at_the_limit(folder):
    assert len(list(ShardSource(str(folder), limit=1).read(Quarantine()))) == 1
    assert len(list(ShardSource(str(folder), limit=9).read(Quarantine()))) == 2


def test_a_damaged_sample_is_set_aside(folder):
    shard = folder / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    quarantine = Quarantine()
    assert [one.key for one in ShardSource(str(folder)).read(quarantine)] == ["photo"]
    assert len(quarantine) == 1


def test_a_folder_without_shards_is_named(tmp_path):
    with pytest.raises(DataError, match="no shards"):
        list(ShardSource(str(tmp_path)).read(Quarantine()))


def test_a_folder_is_known_by_its_manifest(folder):
    assert ShardSource(str(folder)).sources == [str(folder / "manifest.json")]


def test_shards_of_conversations_are_refused(sample, tmp_path):
    talk = replace(
        sample, instances=(), messages=(Message("user", ("Hi",)), Message("assistant", ("Hi",)))
    )
    write_shards([talk], tmp_path, quarantine=Quarantine())
    with pytest.raises(DataError, match="hold conversations, and no annotations"):
        list(ShardSource(str(tmp_path)).read(Quarantine()))
