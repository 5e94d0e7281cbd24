import json

import pytest
from PIL import Image

from locvlm.data import Quarantine
from locvlm.data.readers import LlavaReader
from locvlm.errors import DataError


def record(*turns, **more):
    speakers = ("human", "gpt")
    said = [{"from": speakers[n % 2], "value": text} for n, text in enumerate(turns)]
    return {"id": "a", "image": "a.png", "conversations": said, **more}


@pytest.fixture
def read(tmp_path):
    """Reads records; gives samples and quarantined records."""
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")

    def run(*records, name="chat.json"):
        file = tmp_path / name
        lines = name.endswith(".jsonl")
        file.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
        quarantine = Quarantine()
        return list(LlavaReader(str(file), str(tmp_path)).read(quarantine)), quarantine

    return run


@pytest.mark.parametrize(
    "question", ["<image>\nWhat is it?", "What is it?\n<image>", "What is it?"]
)
def test_the_image_marker_is_taken_out(read, question):
    [sample], _ = read(record(question, "A dog."))
    assert [message.parts for message in sample.messages] == [("What is it?",), ("A dog.",)]
    assert [message.role for message in sample.messages] == ["user", "assistant"]
    assert sample.size == (8, 6)


def test_a_record_without_image_is_a_text_only_sample(read):
    plain = record("Hi", "Hello")
    del plain["image"]
    [sample], _ = read(plain)
    assert sample.image is sample.size is None


def test_keys_are_unique_where_ids_are_not(read):
    samples, _ = read(record("q", "a"), record("q", "b"))
    assert len({sample.key for sample in samples}) == 2


def test_reads_lines_as_well(read):
    samples, _ = read(record("q", "a"), record("q", "b"), name="chat.jsonl")
    assert len(samples) == 2


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"id": "x"}, "record without conversations"),
        ("text", "record without conversations"),
        (record("q", ""), "conversation without an answer"),
        (record("q"), "conversation without an answer"),
        (record("q", "a", image="none.png"), "image file is missing"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "turns that do not alternate"),
        ({"conversations": [{"from": "cat", "value": "a"}]}, "neither human's nor gpt's"),
        ({"conversations": [{"from": "human", "value": 3}]}, "turn without text"),
    ],
)
def test_a_bad_record_is_set_aside_and_the_others_stay(read, bad, reason):
    samples, quarantine = read(bad, record("q", "a"))
    assert len(samples) == 1
    assert [kind for kind in quarantine.reasons if reason in kind]


def test_refuses_a_file_that_is_no_list(tmp_path):
    file = tmp_path / "x.json"
    file.write_text("{}")
    with pytest.raises(DataError, match="not a LLaVA file"):
        list(LlavaReader(str(file), str(tmp_path)).read(Quarantine()))


def test_reads_real_captions(real_data):
    reader = LlavaReader(
        str(real_data / "llava_format" / "blip_laion_cc_sbu_40.json"), str(real_data)
    )
    quarantine = Quarantine()
    assert list(reader.read(quarantine)) == []
    assert quarantine.reasons == {"image file is missing": 40}
