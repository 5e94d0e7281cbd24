import json

import pytest
from PIL import Image

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers import SwiftReader
from locvlm.errors import ConfigError
from locvlm.types import Box, Message


def record(answer="<ref-object> at <bbox>", images=("a.png",), **objects):
    return {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "<image>Where is it?"},
            {"role": "assistant", "content": answer},
        ],
        "images": list(images),
        "objects": objects or {"ref": ["a dog"], "bbox": [[4, 3, 40, 30]]},
    }


@pytest.fixture
def read(tmp_path):
    """Reads records from a file beside one image of 80 x 60 pixels."""
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")

    def run(*records, **options):
        file = tmp_path / "data.jsonl"
        file.write_text("".join(f"{json.dumps(one)}\n" for one in records))
        quarantine = Quarantine()
        reader = SwiftReader(str(file), str(tmp_path), **options)
        assert reader.sources == [str(file)]
        return list(reader.read(quarantine)), quarantine

    return run


def test_a_record_becomes_a_conversation_with_boxes_in_pixels(read, tmp_path):
    absolute = record(images=[f"{tmp_path}/a.png"])
    shares = record(ref=["a dog"], bbox=[[0.05, 0.05, 0.5, 0.5]], bbox_type="norm1")
    samples, quarantine = read(record(), absolute, shares)
    for sample in samples:
        assert sample.size == (80, 60)
        assert sample.messages == (
            Message("user", ("Where is it?",)),
            Message("assistant", ("a dog", " at ", Box(4, 3, 40, 30))),
        )
    assert [sample.key for sample in samples] == ["0", "1", "2"]
    assert len(quarantine) == 0


def test_text_only_records_and_a_limit(read):
    plain = {
        "messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]
    }  # noqa: E501
    samples, _ = read(plain, plain, limit=1)
    assert [(sample.image, len(sample.messages)) for sample in samples] == [(None, 2)]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (record(images=["b.png"]), "image file is missing"),
        (record(images=["../a.png"]), "none below the image folder"),
        (record(images=["/etc/passwd"]), "none below the image folder"),
        (record(images=["a.png", "a.png"]), "more images than one"),
        (record(images=[]), "more images than the record has"),
        (record(bbox=[[400, 3, 500, 30]], ref=["x"]), "outside the image"),
        (record(bbox=[]), "do not fit the text"),
        (record(answer=""), "do not fit the text"),
        (record(answer=None), "turn without text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "do not alternate"),
        ({"messages": [{"role": "user", "content": "<bbox>"}]}, "locations without an image"),
        ({"messages": [{"role": "user", "content": "x"}]}, "without an answer"),
        ({"messages": []}, "record without messages"),
        ({"messages": [7]}, "record without messages"),
        (7, "record without messages"),
    ],
)
def test_records_that_cannot_be_used_are_set_aside(read, bad, reason):
    samples, quarantine = read(bad, record())
    assert [sample.key for sample in samples] == ["1"]
    [aside] = quarantine.records
    assert reason in aside["reason"]
    assert aside["where"]


def test_a_file_is_needed():
    with pytest.raises(ConfigError, match="file of conversations"):
        SwiftReader(None, "images")


def test_a_json_list_and_a_single_image_by_name_are_read_as_well(tmp_path):
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    plain = record() | {"images": "a.png"}
    other = {**record(), "image": "a.png"}
    del other["images"]
    file = tmp_path / "data.json"
    file.write_text(json.dumps([plain, other, {"query": "q", "response": "a"}]))
    quarantine = Quarantine()
    samples = list(SwiftReader(str(file), str(tmp_path)).read(quarantine))
    assert [sample.size for sample in samples] == [(80, 60), (80, 60)]
    assert [one["where"] for one in quarantine.records] == [f"{file}, record 2"]


def test_records_with_videos_are_no_text_only_samples(read):
    clip = record("A dog.", images=()) | {"videos": ["a.mp4"], "objects": None}
    clip["messages"][1]["content"] = "<video>What is it?"
    samples, quarantine = read(clip)
    assert samples == []
    assert list(quarantine.reasons) == ["record with videos"]
