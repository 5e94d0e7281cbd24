import json
import tarfile
from dataclasses import replace

import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from locvlm.data import Quarantine, Shards, write_shards
from locvlm.data.records import to_record
from locvlm.errors import ConfigError, DataError
from locvlm.types import Message, Sample
from tests.data.conftest import annotated, picture, talked

TEXT_ONLY = Sample("text", "talk.json, record 9", messages=(Message("user", ("Hi",)),))


def keys(folder):
    return [sample.key for sample in map(Shards(folder).__getitem__, range(len(Shards(folder))))]


def test_gives_back_what_was_written_at_any_position(shards):
    samples = [*map(annotated, range(5)), *map(talked, range(4)), TEXT_ONLY]
    found = Shards(shards(samples))
    assert len(found) == 10
    assert found.lengths == [4, 4, 2]
    for position in (9, 0, 5, 8, 3):
        sample, back = samples[position], found[position]
        assert back.image == sample.image
        assert sample.source in back.source
        assert to_record(replace(back, source=sample.source)) == to_record(sample)


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


def test_a_failure_leaves_the_old_shards_and_nothing_else(shards, tmp_path):
    folder = shards([annotated(0)])

    def broken():
        yield annotated(1)
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


def test_a_shard_cut_short_gives_the_samples_before_the_cut(shards):
    folder = shards(map(annotated, range(8)))
    tar = folder / "000001.tar"
    with tarfile.open(tar) as members:
        third = members.getmembers()[4]
    tar.write_bytes(tar.read_bytes()[: third.offset_data + 5])
    found = Shards(folder)
    assert found.lengths == [4, 2]
    assert found.readable.tolist() == [0, 1, 2, 3, 4, 5]
    assert [found[position].key for position in found.readable] == [f"image {n}" for n in range(6)]
    assert [reason.rpartition(" ")[2] for reason in found.unreadable()] == [
        "000001-000002",
        "000001-000003",
    ]
    with pytest.raises(DataError, match=r"cut short: 5 of(?s:.*)000001\.tar, sample 000001-000002"):
        found[6]


def test_a_missing_shard_is_named_sample_by_sample(shards):
    folder = shards(map(annotated, range(8)))
    (folder / "000000.tar").unlink()
    found = Shards(folder)
    assert found.lengths == [0, 4]
    assert len(found.unreadable()) == 4
    with pytest.raises(DataError, match=r"cannot be read(?s:.*)000000\.tar"):
        found[0]


@pytest.mark.parametrize("extension", ["json", "png"])
def test_a_flipped_byte_is_noticed(shards, extension):
    folder = shards(map(annotated, range(2)))
    with tarfile.open(folder / "000000.tar") as tar:
        member = tar.getmember(f"000000-000001.{extension}")
    data = bytearray((folder / "000000.tar").read_bytes())
    data[member.offset_data + member.size // 2] ^= 1
    (folder / "000000.tar").write_bytes(data)
    found = Shards(folder)
    assert found[0].key == "image 0"
    with pytest.raises(DataError, match=r"checksum(?s:.*)sample 000000-000001"):
        found[1]


def test_whatever_happens_to_a_tar_its_samples_are_right_or_refused(shards):
    folder = shards(map(annotated, range(3)))
    whole = (folder / "000000.tar").read_bytes()
    expected = [to_record(Shards(folder)[n]) for n in range(3)]

    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, len(whole)), st.integers(0, len(whole) - 1), st.integers(0, 255))
    def check(length, at, value):
        data = bytearray(whole)
        data[at] = value
        (folder / "000000.tar").write_bytes(data[:length])
        found = Shards(folder)
        for position in range(3):
            try:
                assert to_record(found[position]) == expected[position]
            except DataError as error:
                assert "000000" in str(error.where)

    check()


@pytest.mark.parametrize(
    "index",
    [
        "[]",
        "{}",
        "[[1, 2, 3]]",
        "[[1, 2, 3, 4, 5, -6]]",
        "[[1, 2, 3, 4, 5, 1e30]]",
        "[[1, 2, 3, 4, 5, 99999999999999999999]]",
        '[["a", 2, 3, 4, 5, 6]]',
        "[[1, 2, 3, 4, 5, 6], [1]]",
        "[[1, 2, 3",
    ],
)
def test_a_malformed_index_is_named(shards, index):
    folder = shards([annotated(0)])
    (folder / "000000.index.json").write_text(index)
    with pytest.raises(DataError, match=r"malformed(?s:.*)000000\.index\.json"):
        Shards(folder)


@pytest.mark.parametrize("row", [[0, 10**17, 0, 0, 0, 0], [10**17, 5, 0, 0, 0, 0]])
def test_an_index_that_points_far_away_reads_nothing(shards, row):
    folder = shards([annotated(0)])
    (folder / "000000.index.json").write_text(json.dumps([row]))
    found = Shards(folder)
    assert found.readable.tolist() == []
    with pytest.raises(DataError, match="cut short"):
        found[0]


def test_a_folder_without_shards_is_named_with_the_way_out(tmp_path):
    with pytest.raises(DataError, match=r"no shards here(?s:.*)locvlm\.prepare"):
        Shards(tmp_path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format": "locvlm shards", "version": 99, "shards": []}, "version 1"),
        ({"format": "locvlm scenes", "version": 1}, "not locvlm shards"),
        ({"format": "locvlm shards", "version": 1, "shards": []}, "without shards"),
        ({"format": "locvlm shards", "version": 1, "shards": [3]}, "malformed"),
        ([1], "malformed"),
    ],
)
def test_a_manifest_of_something_else_is_refused(tmp_path, manifest, message):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=message):
        Shards(tmp_path)


def test_a_manifest_cannot_point_outside_its_folder(shards, tmp_path):
    inner, outer = shards([annotated(0)], "inner"), shards([annotated(1)], "outer")
    manifest = json.loads((inner / "manifest.json").read_text())
    manifest["shards"][0]["file"] = str(outer / "000000.tar")
    (inner / "manifest.json").write_text(json.dumps(manifest))
    assert keys(inner) == ["image 0"]
