import io
import json
import logging
import threading
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from PIL import Image

from locvlm.data.quarantine import BadSamples, Quarantine, readable
from locvlm.errors import DataError
from locvlm.images import decode_image
from locvlm.types import Message, Sample
from tests.data.conftest import annotated, picture, talked


@pytest.fixture
def quarantine():
    found = Quarantine()
    found.add("7", DataError("image file is missing", where="7.jpg", fix="fetch it"))
    found.add("9", DataError("box outside its image: [50, 3, 10, 5] in 40 x 30"))
    found.add("9", DataError("box outside its image: [60, 3, 10, 5] in 40 x 30", where="a.json"))
    return found


def test_records_are_kept_with_their_reasons_in_the_order_in_which_they_were_met(quarantine):
    assert len(quarantine) == 3
    assert quarantine.records[0] == {
        "key": "7",
        "reason": "image file is missing",
        "where": "7.jpg",
        "fix": "fetch it",
    }
    assert [record["key"] for record in quarantine.records] == ["7", "9", "9"]
    assert (quarantine.records[1]["where"], quarantine.records[1]["fix"]) == ("", "")


def test_reasons_are_counted_by_kind_in_the_order_of_the_alphabet(quarantine):
    quarantine.add("3", DataError("image cannot be decoded, 7,308 bytes: cut short"))
    quarantine.add("4", DataError("image cannot be decoded, 99 bytes: broken PNG file"))
    assert list(quarantine.reasons.items()) == [
        ("box outside its image", 2),
        ("image cannot be decoded", 2),
        ("image file is missing", 1),
    ]


def test_writes_one_line_of_json_for_each_record(quarantine, tmp_path):
    quarantine.add("ключ", DataError("text with a\nline end\u2028 and \ud800"))
    quarantine.write(tmp_path / "quarantine.jsonl")
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == quarantine.records


def test_a_quarantine_of_nothing_is_an_empty_file(tmp_path):
    Quarantine().write(tmp_path / "quarantine.jsonl")
    assert (tmp_path / "quarantine.jsonl").read_text() == ""
    assert Quarantine().reasons == {}


def test_bad_samples_count_once_however_often_they_are_met():
    bad = BadSamples(2)
    for _ in range(5):
        bad.add(["a is cut short", "b is missing"])
    assert len(bad) == 2


def test_one_bad_sample_too_many_stops_the_run_and_is_named():
    bad = BadSamples(1)
    bad.add(["a is cut short"])
    with pytest.raises(DataError, match="2 bad samples, 1 allowed; the last one: b is miss") as e:
        bad.add(["a is cut short", "b is missing"])
    assert e.value.where == "data.max_bad_samples"


def test_none_is_allowed_where_the_limit_is_zero():
    bad = BadSamples(0)
    bad.add([])
    with pytest.raises(DataError, match="1 bad samples, 0 allowed"):
        bad.add(["a is cut short"])


def test_only_the_first_bad_sample_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        bad = BadSamples(5)
        bad.add(["a is cut short", "b is missing"])
        bad.add(["c is missing"])
    assert [record.args for record in caplog.records] == [("a is cut short",)]


@pytest.mark.parametrize("n_threads", [1, 2])
def test_readable_samples_keep_their_order_and_the_others_are_set_aside(n_threads):
    samples = [annotated(n) for n in range(130)]
    for n in (0, 11, 12, 129):
        samples[n] = replace(samples[n], image=picture(n)[:70])
    quarantine = Quarantine()
    found = list(readable(samples, quarantine, n_threads))
    assert found == [sample for n, sample in enumerate(samples) if n not in (0, 11, 12, 129)]
    assert [record["key"] for record in quarantine.records] == [
        f"image {n}" for n in (0, 11, 12, 129)
    ]
    assert quarantine.reasons == {"image cannot be decoded": 4}
    assert quarantine.records[1]["where"] == "annotations.json, image 11"


def test_text_only_samples_need_no_decoding():
    text = Sample("text", "talk.json", messages=(Message("user", ("Hi",)),))
    assert list(readable([text, talked(0)], Quarantine(), 2)) == [text, talked(0)]


def test_an_image_of_another_size_than_stated_is_set_aside():
    quarantine = Quarantine()
    assert list(readable([replace(annotated(0), size=(40, 48))], quarantine, 1)) == []
    [record] = quarantine.records
    assert record["reason"] == "image size differs: 48 x 40 in the file, (40, 48) stated"
    assert record["where"] == "annotations.json, image 0"


@pytest.mark.parametrize("n_threads", [1, 3])
def test_memory_does_not_grow_with_the_number_of_samples(n_threads):
    met = []

    def many():
        for n in range(200):
            met.append(n)
            yield annotated(n)

    found = readable(many(), Quarantine(), n_threads)
    for _ in range(50):
        next(found)
    assert 50 <= len(met) <= 50 + 64 + 1


def test_no_thread_is_left_where_the_samples_are_no_longer_wanted():
    before = set(threading.enumerate())
    found = readable(map(annotated, range(100)), Quarantine(), n_threads=2)
    next(found)
    assert set(threading.enumerate()) > before
    found.close()
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_damaged_photo_is_refused_just_where_decoding_all_of_it_would_be(options):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    rng, samples = Random(0), []
    for n in range(300):
        data = bytearray(buffer.getvalue())
        at = rng.randrange(len(data))
        data[at : at + n % 3] = rng.randbytes(1)  # a byte more, another one, or one less
        data = data if n % 4 else data[:at]
        samples.append(replace(annotated(n), image=bytes(data)))
    quarantine = Quarantine()
    found = list(readable(samples, quarantine, 2))
    assert [sample.key for sample in found] == [one.key for one in samples if _decodes(one)]
    assert 50 < len(found) < 250


def _decodes(sample):
    try:
        return decode_image(sample.image, "photo").shape == (3, 40, 48)
    except DataError:
        return False


def test_one_quarantine_goes_behind_another(quarantine):
    more = Quarantine(left_out=Counter(small=2))
    more.add("11", DataError("image file is missing"))
    quarantine.left_out["small"] += 1
    quarantine.update(more)
    assert [record["key"] for record in quarantine.records] == ["7", "9", "9", "11"]
    assert quarantine.left_out == {"small": 3}


def test_the_summary_counts_what_was_set_aside_and_left_out():
    found = Quarantine()
    assert found.summary == ""
    for key in "ab":
        found.add(key, DataError(f"image file is missing: {key}"))
    found.left_out["image without a question"] = 3
    assert found.summary == "2 x image file is missing; 3 x image without a question"


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_reader_that_stops_with_an_error_stops_the_work(n_threads):
    def broken():
        yield annotated(0)
        raise DataError("not a COCO instances file")

    with pytest.raises(DataError, match="not a COCO"):
        list(readable(broken(), Quarantine(), n_threads))
