import json

import pytest
from hypothesis import given
from PIL import Image

from locvlm.data.readers import FerretReader
from locvlm.errors import ConfigError
from locvlm.types import Box
from tests.data.readers.fuzz import broken, read_all, read_or_refuse, write

RECORD = {
    "id": 7,
    "image": "a.png",
    "image_w": 40,
    "image_h": 30,
    "conversations": [
        {"from": "human", "value": "<image>\nIs <bbox_location1> in <bbox_location0>?"},
        {"from": "gpt", "value": "It is in <bbox_location0>."},
    ],
    "box_x1y1x2y2": [[[1, 2, 30, 20], [3, 4, 5, 6]], [[1, 2, 30, 20]]],
}


@pytest.fixture
def read(tmp_path):
    """Reads records about one 40 x 30 image; gives samples by key and the quarantine."""
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")

    def run(*records):
        return read_all(FerretReader(write(tmp_path / "f.json", list(records)), str(tmp_path)))

    return run


def test_placeholders_become_the_boxes_of_their_turn(read):
    samples, quarantine = read(RECORD)
    outer, inner = Box(1, 2, 30, 20), Box(3, 4, 5, 6)
    assert [message.parts for message in samples["7"].messages] == [
        ("Is ", inner, " in ", outer, "?"),
        ("It is in ", outer, "."),
    ]
    assert not len(quarantine)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"box_x1y1x2y2": [[[1, 2, 30, 20]], [[1, 2, 30, 20]]]}, "placeholder without its box"),
        ({"box_x1y1x2y2": [[], []]}, "placeholder without its box"),
        ({"box_x1y1x2y2": [[]]}, "2 turns with 1 lists of boxes"),
        ({"box_x1y1x2y2": [[[1, 2, 3], [3, 4, 5, 6]], []]}, "box without four numbers"),
        ({"box_x1y1x2y2": [[[5, 4, 3, 6]] * 2, [[3, 4, 3, 6]]]}, "box without area"),
        ({"image_w": 80}, "image size differs"),
        ({"image": "b.png"}, "image file is missing"),
    ],
)
def test_a_bad_record_is_set_aside_and_the_others_stay(read, wrong, reason):
    samples, quarantine = read(RECORD | wrong, RECORD)
    assert list(samples) == ["7-1"]
    assert list(quarantine.reasons) == [reason]


def test_asks_for_a_file(tmp_path):
    with pytest.raises(ConfigError, match="a file of conversations is needed"):
        FerretReader(None, str(tmp_path))


@given(broken(RECORD))
def test_whatever_a_record_holds_it_is_read_or_set_aside(tmp_path_factory, record):
    folder = tmp_path_factory.mktemp("ferret")
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    samples, quarantine = read_or_refuse(
        FerretReader(write(folder / "f.json", [record]), str(folder))
    )
    assert samples or len(quarantine)


def test_reads_the_real_extract(real_data, tmp_path):
    file = real_data / "llava_format" / "ferretui_train_data_example.json"
    record = json.loads(file.read_text())[0]
    Image.new("RGB", (record["image_w"], record["image_h"])).save(tmp_path / record["image"])
    samples, quarantine = read_all(FerretReader(str(file), str(tmp_path)))
    assert len(samples) == 3
    assert not len(quarantine)
    assert samples["0"].messages[0].parts == (
        "What's the UI type of the widget ",
        Box(445, 524, 692, 632),
        "?",
    )
