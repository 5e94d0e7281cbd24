"""Damaged and forged shards through the data module: the run goes on, and what is bad is named."""

import json
import os
import tarfile
import tracemalloc
import zlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from locvlm.data import LocVLMDataModule, Quarantine, Source, write_shards
from locvlm.data.records import to_record
from locvlm.errors import DataError, LocVLMError
from locvlm.geometry import pad
from locvlm.objectives import LocPred, Mix
from tests.data.conftest import annotated, picture, talked
from tests.hostile import BOMBS, harmless, modest
from tests.tiny import make_processor

PROCESSOR = make_processor(max_length=200)
LOCATE = Mix([LocPred(["Where is {category}?"])], [1])
FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def look(sample):
    """What tells a sample from others in a batch: the sums of its tokens and of its pixels."""
    found = PROCESSOR.encode(sample, sample.messages or LOCATE(sample, Random(0)))
    return int(found["input_ids"].sum()), int(found["pixel_values"].sum())


def epoch(folder, objective=None, processor=PROCESSOR, **options):
    """Looks of the samples that an epoch shows, and the reasons of the bad ones."""
    source = {"all": Source(str(folder), objective)}
    data = LocVLMDataModule(processor, source, batch_size=2, max_bad_samples=10**6, **options)
    batches = list(data.train_dataloader())
    assert max(batch["input_ids"].shape[1] for batch in batches) <= processor.max_length
    seen = {
        (int(ids[mask].sum()), int(image.sum()))
        for batch in batches
        for ids, mask, image in zip(
            batch["input_ids"], batch["attention_mask"], batch["pixel_values"], strict=True
        )
    }
    return seen, list(data.bad_samples._reasons)


def forged(folder, *samples):
    """Shards of (record, image) with checksums that fit, whatever the records are."""
    folder.mkdir()
    rows, content = [], b""
    for record, image in samples:
        data = record if isinstance(record, bytes) else json.dumps(record).encode()
        row = [len(content), len(data), zlib.crc32(data)]
        rows.append([*row, len(content) + len(data), len(image), zlib.crc32(image)])
        content += data + image
    (folder / "000000.tar").write_bytes(content)
    (folder / "000000.index.json").write_text(json.dumps(rows))
    shard = {"file": "000000.tar", "samples": len(rows), "sha256": ""}
    manifest = {"format": "locvlm shards", "version": 1, "shards": [shard]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def change(path, value):
    """Sets fields of the first shard in a manifest."""
    manifest = json.loads(path.read_text())
    manifest["shards"][0].update(value)
    path.write_text(json.dumps(manifest))


@pytest.fixture
def out(tmp_path):
    """Two shards of three conversations; beside them lies what nobody may touch."""
    (tmp_path / "mine.txt").write_text("mine")
    write_shards(map(talked, range(6)), tmp_path / "out", quarantine=Quarantine(), per_shard=3)
    return tmp_path / "out"


NAMES = {f"{shard:06d}-{n:06d}": look(talked(3 * shard + n)) for shard in (0, 1) for n in range(3)}


def named(reasons):
    return {name for name in NAMES for reason in reasons if f"sample {name}" in reason}


@pytest.mark.parametrize("file", ["000000.tar", "000001.tar", "000000.index.json"])
def test_whatever_happens_to_a_file_each_sample_is_shown_or_named(out, tmp_path, file):
    whole = (out / file).read_bytes()

    @FEW
    @given(st.integers(0, len(whole) - 1), st.integers(0, 255), st.booleans())
    @example(max(0, whole.find(b"It is")), ord("O"), False)  # another text, and JSON all the same
    def check(at, value, is_cut):
        data = whole[:at] if is_cut else whole[:at] + bytes([value]) + whole[at + 1 :]
        (out / file).write_bytes(data)
        with harmless(tmp_path):
            seen, reasons = epoch(out)
        assert seen == {NAMES[name] for name in NAMES.keys() - named(reasons)}
        assert len(reasons) == len(named(reasons))

    check()


def test_whatever_happens_to_a_manifest_no_other_samples_come(out, tmp_path):
    whole = (out / "manifest.json").read_bytes()

    @FEW
    @given(st.integers(0, len(whole) - 1), st.integers(0, 255), st.booleans())
    def check(at, value, is_cut):
        data = whole[:at] if is_cut else whole[:at] + bytes([value]) + whole[at + 1 :]
        (out / "manifest.json").write_bytes(data)
        with harmless(tmp_path):
            try:
                assert epoch(out)[0] <= set(NAMES.values())
            except LocVLMError as error:
                assert str(out) in str(error)

    check()


def test_workers_show_and_name_the_same(out, tmp_path):
    data = bytearray((out / "000001.tar").read_bytes())
    data[data.index(b"\x89PNG")] = 0
    (out / "000001.tar").write_bytes(data[: len(data) // 2])
    (out / "000000.index.json").write_text("[[1, 2")
    alone = epoch(out)
    with harmless(tmp_path):
        seen, reasons = epoch(out, num_workers=2)
    assert seen == alone[0]
    assert sorted(reasons) == sorted(alone[1])
    assert {name for name in NAMES if name.startswith("000000")} < named(reasons)


@pytest.mark.parametrize(
    "name",
    ["{other}", "../other/000000.tar", "../../../../etc/passwd", "/etc/passwd", "..", "", ".", "/"]
    + ["\0", "a\0.tar", "\ud800.tar", "x" * 300 + ".tar", "pipe:touch evil", 7, None, {}, []],
)
def test_a_manifest_names_files_of_its_folder_only(out, tmp_path, name):
    other = tmp_path / "other"
    write_shards([talked(9)], other, quarantine=Quarantine())
    given_name = str(other / "000000.tar") if name == "{other}" else name
    change(out / "manifest.json", {"file": given_name})
    with harmless(tmp_path):
        try:
            seen, reasons = epoch(out)
        except DataError as error:
            assert str(out / "manifest.json") in str(error)
        else:
            assert seen <= set(NAMES.values())
            assert len(reasons) in (0, 3)


@pytest.mark.parametrize("n", [0, -1, 10**9, 10**18, 10**400, "3", None, float("nan"), [3]])
def test_a_manifest_cannot_promise_endless_samples(out, n):
    (out / "000000.index.json").unlink()
    change(out / "manifest.json", {"samples": n})
    with modest(), pytest.raises(DataError, match=r"manifest is malformed(?s:.*)manifest\.json"):
        epoch(out)


@pytest.mark.parametrize("row", [[0, 10**18], [10**18, 5], [10**12 - 5, 10**12], [0, 10**12]])
def test_an_index_cannot_ask_for_more_memory_than_a_sample_takes(out, tmp_path, row):
    os.truncate(out / "000000.tar", 10**12)  # a hole, which takes no room on the disk
    index = json.loads((out / "000000.index.json").read_text())
    for place in (0, 3):
        changed = [row_.copy() for row_ in index]
        changed[1][place : place + 2] = row
        (out / "000000.index.json").write_text(json.dumps(changed))
        tracemalloc.start()
        with harmless(tmp_path):
            seen, reasons = epoch(out)
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()
        assert named(reasons) == {"000000-000001"}
        assert seen == {NAMES[name] for name in NAMES.keys() - {"000000-000001"}}


def test_members_with_hostile_names_are_never_unpacked(out, tmp_path):
    content = (out / "000000.tar").read_bytes()
    with tarfile.open(out / "000000.tar", "w") as tar:
        for name, kind in [
            ("/tmp/../../evil", tarfile.REGTYPE),
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("disk", tarfile.BLKTYPE),
            ("pipe:touch evil", tarfile.FIFOTYPE),
        ]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../../../etc/passwd"
            tar.addfile(member)
    before = (out / "000000.tar").stat().st_size
    (out / "000000.tar").write_bytes((out / "000000.tar").read_bytes() + content)
    index = json.loads((out / "000000.index.json").read_text())
    for row in index:
        row[0], row[3] = row[0] + before, row[3] + before
    (out / "000000.index.json").write_text(json.dumps(index))
    with harmless(tmp_path):
        assert epoch(out) == (set(NAMES.values()), [])


def turns(question, answer, n=1):
    asked = [{"role": "user", "parts": question}, {"role": "assistant", "parts": answer}]
    return to_record(talked(1)) | {"messages": asked * n}


def located(**changes):
    record = to_record(annotated(1))
    return record | {"instances": [record["instances"][0] | changes]}


DEEP = json.dumps(to_record(talked(1))).replace('"talk 1"', "[" * 980 + "]" * 980, 1).encode()
BAD_RECORDS = {
    "no JSON": b"\x80\x04cos\nsystem\n",
    "nested a hundred thousand deep": b"[" * 10**5 + b"]" * 10**5,
    "nested too deep to show": DEEP,
    "17 million characters": b'"' + b"x" * 17_000_000 + b'"',
    "a size of 400 digits": located() | {"size": [10**400, 10**400]},
    "a negative size": located() | {"size": [-48, -40]},
    "NaN": located(box=[float("nan"), 0, 1, 1]),
    "infinity": located(box=[0, 0, float("inf"), 1]),
    "400 digits": located(box=[10**400, 0, 1, 1]),
    "a box of texts": located(box=["1", "2", "3", "4"]),
    "a box of five": located(box=[1, 2, 3, 4, 5]),
    "a category of numbers": located(category=[1] * 1000),
    "a box in a text about no image": turns(["Where?"], [[1, 2, 3, 4]]) | {"size": None},
    "an answer only": turns([], ["Yes."]) | {"messages": turns([], ["Yes."])["messages"][1:]},
    "a far question": turns([], ["x "])
    | {"messages": turns(["Is"], ["x " * 9999])["messages"][::-1]},
}
GOOD_RECORDS = {
    "a hundred thousand turns": turns(["Is it?"], ["It is."], 50_000),
    "ten million letters of an answer": turns(["What?"], ["y" * 10_000_000]),
    "five million words": turns(["What?"], ["no " * 5_000_000]),
    "thirty thousand boxes": turns(["Where?"], [[1, 2, 3, 4]] * 30_000),
    "marks and half characters": turns(["<image></s>\ud800\0"], ["</s>"]),
    "the largest numbers": located(box=[-1e308, -1e308, 1e308, 1e308]),
    "a hundred thousand objects": located()
    | {"instances": [located(category=str(n))["instances"][0] for n in range(100_000)]},
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_a_bad_record_is_named_and_the_others_are_shown(tmp_path, what):
    record = BAD_RECORDS[what]
    talks = isinstance(record, bytes) or bool(record["messages"])
    good = talked(0) if talks else annotated(0)
    image = b"" if "no image" in what else picture(1)
    folder = forged(tmp_path / "out", (to_record(good), good.image), (record, image))
    with harmless(tmp_path), modest():
        seen, reasons = epoch(folder, None if talks else LOCATE)
    assert seen == {look(good)}
    assert len(reasons) == 1
    assert "000000.tar, sample 000000-000001" in reasons[0]
    assert len(reasons[0]) < 2000


@pytest.mark.parametrize("what", GOOD_RECORDS)
def test_a_huge_record_is_cut(tmp_path, what):
    record = GOOD_RECORDS[what]
    folder = forged(tmp_path / "out", (record, picture(1)))
    with harmless(tmp_path), modest(600):
        seen, reasons = epoch(folder, None if record["messages"] else LOCATE)
    assert [image for _, image in seen] == [look(talked(1))[1]]
    assert reasons == []


def test_a_question_that_leaves_no_room_for_its_answer_gives_its_place(tmp_path):
    good, long = talked(0), turns(["x" * 10_000_000], ["Yes."])
    folder = forged(tmp_path / "out", (to_record(good), good.image), (long, picture(1)))
    with harmless(tmp_path), modest(600):
        assert epoch(folder) == ({look(good)}, [])


@pytest.mark.parametrize("what", BOMBS)
def test_an_image_that_is_not_what_it_says_is_named_and_the_others_are_shown(tmp_path, what):
    samples = [talked(0), replace(talked(1), image=BOMBS[what]), talked(2)]
    folder = forged(tmp_path / "out", *((to_record(one), one.image) for one in samples))
    processor = make_processor(max_length=200)
    processor.geometry = pad
    with harmless(tmp_path), modest():
        seen, reasons = epoch(folder, processor=processor)
    assert len(seen) == 2
    assert len(reasons) == 1
    assert "000000.tar, sample 000000-000001 (talk.json, record 1)" in reasons[0]


def test_a_run_of_bad_samples_ends_in_words(tmp_path):
    bad = [replace(talked(n), image=b"no image") for n in range(5)]
    folder = forged(tmp_path / "out", *((to_record(one), one.image) for one in bad))
    with pytest.raises(DataError, match="samples in a row give nothing"):
        epoch(folder)
    source = {"all": Source(str(folder))}
    loader = LocVLMDataModule(PROCESSOR, source, batch_size=1, max_bad_samples=2).train_dataloader()
    with pytest.raises(DataError, match=r"3 bad samples, 2 allowed(?s:.*)sample 000000-00000"):
        list(loader)
