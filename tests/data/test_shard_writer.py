import json
import os
import signal
import tarfile
from dataclasses import replace
from functools import partial
from multiprocessing import Pool, set_start_method

import pytest
import webdataset

from locvlm.data import Quarantine, Shards, shard_writer, write_shards
from locvlm.errors import ConfigError, DataError, LocVLMError
from locvlm.types import Message, Sample
from tests.data.conftest import annotated, picture, talked

TEXT_ONLY = Sample("text", "talk.json, record 9", messages=(Message("user", ("Hi",)),))


def keys(folder):
    return [sample.key for sample in map(Shards(folder).__getitem__, range(len(Shards(folder))))]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def many(monkeypatch):
    """Samples are many: all but those of the first shard are written by three processes."""
    monkeypatch.setattr(shard_writer, "_FEW", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)


def test_plain_webdataset_reads_them(shards):
    images = [picture(0), picture(1, kind="JPEG"), picture(2, kind="WEBP"), picture(3, kind="GIF")]
    samples = [replace(annotated(n), image=image) for n, image in enumerate(images)]
    folder = shards([*samples, TEXT_ONLY], per_shard=2)
    files = [str(path) for path in sorted(folder.glob("*.tar"))]
    found = list(webdataset.WebDataset(files, shardshuffle=False))
    assert [json.loads(one["json"])["key"] for one in found] == [f"image {n}" for n in range(4)] + [
        "text"
    ]
    assert [one.get(kind) for one, kind in zip(found, ["png", "jpg", "webp", "img"], strict=False)]
    assert found[1]["jpg"] == images[1]
    assert len({one["__key__"] for one in found}) == 5


def test_the_same_samples_give_the_same_bytes(shards):
    first, second = (shards(map(annotated, range(6)), name) for name in ("one", "two"))
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_the_manifest_says_what_is_there(tmp_path):
    quarantine = Quarantine()
    quarantine.add("7", DataError("image file is missing", where="7.jpg"))
    samples = [annotated(0), annotated(1), talked(2), TEXT_ONLY]
    manifest = write_shards(
        samples, tmp_path / "s", quarantine=quarantine, per_shard=3, about={"seed": 5}
    )
    assert manifest == json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["counts"] == {
        "samples": 4,
        "images": 3,
        "instances": 2,
        "single_instances": 2,
        "absent": 2,
        "turns": 1,
        "locations": 0,
        "with_plain_locations": 0,
    }
    assert manifest["kinds"] == {
        "annotated image": 2,
        "conversation": 1,
        "text-only conversation": 1,
    }
    assert manifest["categories"] == {"circle": 2}
    assert manifest["quarantined"] == {"records": 1, "reasons": {"image file is missing": 1}}
    assert [shard["samples"] for shard in manifest["shards"]] == [3, 1]
    assert manifest["seed"] == 5
    assert json.loads((tmp_path / "s" / "quarantine.jsonl").read_text())["where"] == "7.jpg"


@pytest.mark.parametrize("key", ["../../up", "/etc/passwd", "a.b.c", "a\nb", "", "pipe:ls", "ключ"])
def test_no_key_reaches_a_member_name(shards, key):
    folder = shards([replace(annotated(0), key=key)])
    with tarfile.open(folder / "000000.tar") as tar:
        assert tar.getnames() == ["000000-000000.json", "000000-000000.png"]
    assert keys(folder) == [key]


def test_half_a_character_in_a_text_does_no_harm(shards):
    folder = shards([replace(TEXT_ONLY, messages=(Message("user", ("a\ud800",)),))])
    assert Shards(folder)[0].messages[0].parts == ("a?",)


@pytest.mark.parametrize("n", [1, 30])
def test_a_failure_leaves_the_old_shards_and_nothing_else(many, shards, tmp_path, n):
    folder = shards([annotated(0)])

    def broken():
        yield from map(annotated, range(n))
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError):
        shards(broken())
    assert keys(folder) == ["image 0"]
    assert list(tmp_path.iterdir()) == [folder]


def test_no_sample_at_all_is_an_error(tmp_path):
    quarantine = Quarantine()
    quarantine.add("1", DataError("image file is missing"))
    with pytest.raises(DataError, match=r"no usable sample.*image file is missing"):
        write_shards([], tmp_path / "s", quarantine=quarantine)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("per_shard", [0, 1_000_001])
def test_a_shard_holds_one_sample_to_a_million(shards, per_shard):
    with pytest.raises(ConfigError, match=f"per_shard must be 1 to 1,000,000, got {per_shard}"):
        shards([annotated(0)], per_shard=per_shard)


def refuse(samples, quarantine, n_threads, fifth):
    """A finish: sets aside every fifth sample, or leaves it out; shows where it was called."""
    for sample in samples:
        if int(sample.key.split()[1]) % 5 != fifth:
            yield replace(sample, extra={"threads": str(n_threads)})
        elif sample.messages:
            quarantine.left_out["conversation"] += 1
        else:
            quarantine.add(sample.key, DataError("refused"))


def test_a_finish_gives_what_is_stored(many, tmp_path):
    samples = [annotated(n) if n % 2 else talked(n) for n in range(14)]
    quarantine = Quarantine()
    manifest = write_shards(
        samples, tmp_path / "s", quarantine=quarantine, per_shard=4, finish=partial(refuse, fifth=1)
    )
    assert [shard["samples"] for shard in manifest["shards"]] == [3, 3, 3, 2]
    assert keys(tmp_path / "s") == [one.key for n, one in enumerate(samples) if n % 5 != 1]
    assert manifest["quarantined"] == {"records": 2, "reasons": {"refused": 2}}
    assert manifest["left_out"] == {"conversation": 1}
    assert manifest["counts"]["samples"] == 11
    assert [record["key"] for record in quarantine.records] == ["image 1", "image 11"]


def test_a_finish_has_the_cores_to_itself_only_where_nobody_else_writes(many, tmp_path):
    folder = tmp_path / "s"
    finish = partial(refuse, fifth=None)
    write_shards(
        map(annotated, range(5)), folder, quarantine=Quarantine(), per_shard=2, finish=finish
    )
    assert [Shards(folder)[n].extra["threads"] for n in range(5)] == ["3", "3", "1", "1", "1"]


def process_of(samples, quarantine, n_threads):
    for sample in samples:
        yield replace(sample, extra={"process": str(os.getpid())})


def test_few_samples_start_no_process_and_of_many_only_the_first_are_written_here(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(shard_writer, "_FEW", 5)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    def here(n_samples):
        samples, folder = map(annotated, range(n_samples)), tmp_path / str(n_samples)
        write_shards(samples, folder, quarantine=Quarantine(), per_shard=2, finish=process_of)
        found = Shards(folder)
        return [found[n].extra["process"] == str(os.getpid()) for n in range(n_samples)]

    assert here(6) == [True] * 6
    assert here(10) == [True] * 6 + [False] * 4


def written_in_a_daemon(folder):
    write_shards(
        map(annotated, range(4)), folder, quarantine=Quarantine(), per_shard=1, finish=process_of
    )
    return {Shards(folder)[n].extra["process"] for n in range(4)} == {str(os.getpid())}


def test_a_process_that_may_start_none_does_all_work_itself(many, tmp_path):
    with Pool(1) as pool:
        assert pool.apply(written_in_a_daemon, [tmp_path / "s"])


def test_a_finish_that_cannot_be_pickled_is_called_in_this_process(many, shards, tmp_path):
    called = []

    def finish(samples, quarantine, n_threads):
        called.append(n_threads)
        return samples

    write_shards(
        map(annotated, range(5)),
        tmp_path / "local",
        quarantine=Quarantine(),
        per_shard=2,
        finish=finish,
    )
    assert called == [3, 3, 3]
    assert contents(tmp_path / "local") == contents(shards(map(annotated, range(5)), per_shard=2))


def test_the_number_of_processes_changes_no_byte(many, tmp_path, monkeypatch):
    def read(quarantine):
        for n in range(40):
            if n % 7 == 0:
                quarantine.add(f"image {n}", DataError("image file is missing"))
            yield annotated(n)

    found = []
    for n_processes in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda n=n_processes: n)
        folder, quarantine = tmp_path / str(n_processes), Quarantine()
        finish = partial(refuse_but_threads, fifth=2)
        write_shards(read(quarantine), folder, quarantine=quarantine, per_shard=3, finish=finish)
        found.append(contents(folder))
    assert len(found[0]) == 14 * 2 + 2
    assert found[1:] == [found[0]] * 2


def refuse_but_threads(samples, quarantine, n_threads, fifth):
    return refuse(samples, quarantine, 0, fifth)


def test_what_the_reader_sets_aside_comes_before_what_the_finish_does(many, tmp_path):
    quarantine = Quarantine()

    def read():
        for n in range(12):
            yield annotated(n)
        quarantine.add("12", DataError("image file is missing"))

    finish = partial(refuse, fifth=3)
    write_shards(read(), tmp_path / "s", quarantine=quarantine, per_shard=2, finish=finish)
    assert [record["key"] for record in quarantine.records] == ["12", "image 3", "image 8"]


def test_a_shard_without_any_usable_sample_is_left_out(many, tmp_path):
    finish = partial(refuse, fifth=1)
    manifest = write_shards(
        map(annotated, range(3)),
        tmp_path / "s",
        quarantine=Quarantine(),
        per_shard=1,
        finish=finish,
    )
    assert [shard["file"] for shard in manifest["shards"]] == ["000000.tar", "000002.tar"]
    assert keys(tmp_path / "s") == ["image 0", "image 2"]
    assert not list((tmp_path / "s").glob("000001*"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_processes_may_be_started_in_any_way(many, shards, tmp_path, method):
    expected = contents(shards(map(annotated, range(9)), "forked"))
    set_start_method(method, force=True)
    try:
        found = contents(shards(map(annotated, range(9)), method))
    finally:
        set_start_method(None, force=True)
    assert found == expected


def fail(samples, quarantine, n_threads, error):
    if n_threads == 1:
        raise error
    return samples


def die(samples, quarantine, n_threads):
    if n_threads == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return samples


@pytest.mark.parametrize(
    ("finish", "message"),
    [
        (partial(fail, error=OSError(28, "No space left on device")), "cannot write.*No space"),
        (partial(fail, error=DataError("it is bad", where="it")), "it is bad"),
        (die, "a process that works for this one was killed"),
    ],
)
def test_a_failure_in_a_process_ends_all_and_leaves_nothing(many, tmp_path, finish, message):
    samples = map(annotated, range(50))
    with pytest.raises(LocVLMError, match=message):
        write_shards(samples, tmp_path / "s", quarantine=Quarantine(), per_shard=2, finish=finish)
    assert list(tmp_path.iterdir()) == []
    assert next(samples, None) is not None
