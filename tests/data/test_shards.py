import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locvlm.data import Shards
from locvlm.data.records import to_record
from locvlm.errors import DataError
from locvlm.types import Message, Sample
from tests.data.conftest import annotated, talked

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
