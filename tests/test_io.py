import json
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm import io
from locvlm.errors import DataError, LocVLMError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    # surrogates too: "\ud800" in someone's JSON becomes one
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=8,
)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_writes_a_file_and_its_folder_and_nothing_else(tmp_path):
    io.write_text(tmp_path / "a" / "b.txt", "früh\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "früh\n".encode()
    assert files(tmp_path) == ["a", "a/b.txt"]


def test_new_files_have_the_mode_that_the_umask_gives(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    io.write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    io.write_json(path, 1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocVLMError, match="No space left") as error:
        io.write_json(path, 2)
    assert error.value.where == str(path)
    assert files(tmp_path) == ["a.json"]
    assert io.read_json(path) == 1


def test_a_folder_in_the_way_of_a_file_is_an_error(tmp_path):
    with pytest.raises(LocVLMError, match="cannot write"):
        io.write_text(tmp_path, "text")
    with pytest.raises(LocVLMError, match="cannot write"):
        io.append_jsonl(tmp_path, 1)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(LocVLMError, match="cannot write") as error, io.locked(file / "below"):
        pass
    assert error.value.where == str(file)


def test_json_is_sorted_indented_and_readable(tmp_path):
    io.write_json(tmp_path / "a.json", {"b": "ü", "a": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1\n  ],\n  "b": "ü"\n}'


@given(JSON)
def test_json_survives_writing_and_reading(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("json")
    io.write_json(folder / "a.json", value)
    assert io.read_json(folder / "a.json") == value
    io.append_jsonl(folder / "a.jsonl", value)
    io.append_jsonl(folder / "a.jsonl", value, [value])
    lines = [(1, value), (2, value), (3, [value])]
    assert list(io.read_jsonl(folder / "a.jsonl")) == lines


def test_nan_is_refused_because_json_has_none(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        io.write_json(tmp_path / "a.json", {"score": float("nan")})
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b'{"a": 1,\n "b" 2}', "Expecting ':' delimiter", 2),
        (b"", "Expecting value", 1),
        (b'{\n"a": "\xff"}', "not UTF-8", 2),
        (b"[" * 100_000, "nested too deeply", 1),
        (b"1" * 5_000, "integer string conversion", 1),
    ],
)
def test_malformed_json_names_file_and_line(tmp_path, content, message, line):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        io.read_json(path)
    assert error.value.where == f"{path}, line {line}"


def test_json_lines_in_the_place_of_json_are_known(tmp_path):
    path = tmp_path / "questions.json"
    path.write_text('{"question_id": 1}\n{"question_id": 2}\n')
    with pytest.raises(DataError, match="look like JSON Lines(?s:.*)data set's own JSON file"):
        io.read_json(path)


def test_a_byte_order_mark_is_no_error(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert io.read_json(tmp_path / "a.json") == [1]


@pytest.mark.parametrize("read", [io.read_json, lambda p: list(io.read_jsonl(p)), io.sha256])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(DataError, match="No such file") as error:
        read(tmp_path / "gone.json")
    assert error.value.where == str(tmp_path / "gone.json")


def test_json_lines_keep_their_numbers_over_empty_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('1\n\n{"a": 2}\r\n3')
    assert list(io.read_jsonl(path)) == [(1, 1), (3, {"a": 2}), (4, 3)]


def test_a_malformed_line_is_named_after_those_before_it_were_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("1\n2\nnope\n4\n")
    lines = io.read_jsonl(path)
    assert [next(lines), next(lines)] == [(1, 1), (2, 2)]
    with pytest.raises(DataError, match="Expecting value") as error:
        next(lines)
    assert error.value.where == f"{path}, line 3"


@pytest.mark.parametrize("kept", ["", "1\n", "1\n" + "2" * 70_000 + "\n"])
@pytest.mark.parametrize("torn", ['{"key": ', "3" * 70_000, "3" * 140_000])
def test_a_line_cut_short_by_a_crash_is_dropped(tmp_path, kept, torn):
    path = tmp_path / "a.jsonl"
    path.write_text(kept + torn)
    io.drop_torn_line(path)
    assert path.read_text() == kept
    path.write_text(kept + torn)
    io.append_jsonl(path, {"b": 1})
    assert path.read_text() == kept + '{"b": 1}\n'


def test_dropping_a_torn_line_leaves_whole_and_missing_files_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    io.drop_torn_line(path)
    assert not path.exists()
    path.write_text("1\n2\n")
    io.drop_torn_line(path)
    assert path.read_text() == "1\n2\n"


def test_appended_lines_survive_a_kill(tmp_path):
    path = tmp_path / "a.jsonl"
    code = f"""
from locvlm.io import append_jsonl
n = 0
while True:
    append_jsonl({str(path)!r}, {{"n": n, "text": "x" * 2000}})
    n += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while (not path.exists() or path.stat().st_size < 50_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    io.drop_torn_line(path)
    assert [value["n"] for _, value in io.read_jsonl(path)] == list(
        range(len(path.read_text().splitlines()))
    )


def test_a_folder_appears_whole(tmp_path):
    path = tmp_path / "deep" / "out"
    with io.atomic_folder(path) as folder:
        io.write_json(folder / "manifest.json", {})
        io.write_text(folder / "train" / "a.txt", "a")
        assert not path.exists()
    assert files(path) == ["manifest.json", "train", "train/a.txt"]
    assert os.listdir(path.parent) == ["out"]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "out"
    for text, fails in [("old", False), ("new", True)]:
        try:
            with io.atomic_folder(path, marker="config.json") as folder:
                io.write_text(folder / "config.json", text)
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert (path / "config.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_new_folder_replaces_all_of_the_old_one(tmp_path):
    path = tmp_path / "out"
    for name in ("a", "b"):
        with io.atomic_folder(path) as folder:
            io.write_json(folder / "manifest.json", name)
            io.write_text(folder / name, name)
    assert files(path) == ["b", "manifest.json"]
    assert os.listdir(tmp_path) == ["out"]


def test_a_folder_of_somebody_else_is_never_deleted(tmp_path):
    path = tmp_path / "home"
    io.write_text(path / "thesis.tex", "years")
    with (
        pytest.raises(LocVLMError, match=r"replace a folder without manifest.json"),
        io.atomic_folder(path),
    ):
        pytest.fail("the block must not run: it may take hours")
    with (
        pytest.raises(LocVLMError, match="replace something that is not a folder"),
        io.atomic_folder(path / "thesis.tex"),
    ):
        pytest.fail("the block must not run")
    assert files(path) == ["thesis.tex"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with io.atomic_folder(tmp_path / "out") as folder:
        io.write_json(folder / "manifest.json", {})
    assert files(tmp_path / "out") == ["manifest.json"]


def test_a_folder_without_its_marker_is_a_bug_of_ours(tmp_path):
    with (
        pytest.raises(ValueError, match=r"nothing wrote manifest.json"),
        io.atomic_folder(tmp_path / "out"),
    ):
        pass
    assert files(tmp_path) == []


def test_digests_of_bytes_and_files_agree(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert io.sha256(tmp_path / "a") == io.sha256(str(tmp_path / "a")) == io.sha256(b"abc")
    assert io.sha256(b"abc").startswith("ba7816bf")


@pytest.mark.parametrize("name", ["a.jpg", "train/a b (1).jpg", "..a/b", "a..jpg", "é.png"])
def test_members_below_their_folder_are_safe(name):
    assert io.safe_member(name)


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a", "a/../../b", "a/..", "..", "a\\b", "C:a", "a\nb", "a\0", "\ud800"],
)
def test_members_that_lead_elsewhere_are_not(name):
    assert not io.safe_member(name)


def test_results_are_plain_json_for_other_programs(tmp_path):
    io.write_json(tmp_path / "a.json", {"name": "\ud800"})
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"name": "\ud800"}
    io.write_text(tmp_path / "a.jsonl", json.dumps({"name": "\ud800é"}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.jsonl").read_bytes()) == {"name": "\ud800é"}
