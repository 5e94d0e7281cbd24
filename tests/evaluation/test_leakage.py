import pytest
from PIL import Image

from locvlm.data import Quarantine, write_shards
from locvlm.evaluation.leakage import coco_notes, leakage, training_shards
from locvlm.types import Message, Question, Sample
from tests.data.conftest import annotated, picture

ASKED = (Message("user", ("What is it?",)),)


@pytest.fixture
def shards(tmp_path):
    """The folder of three training samples: two of one COCO image, one of no name."""
    samples = [
        Sample("a", "t", picture(1), (48, 40), extra={"image": "COCO_train2014_000000000009.jpg"}),
        Sample("b", "t", picture(2), (48, 40), extra={"image": "train2017/000000000009.jpg"}),
        annotated(7),
    ]
    write_shards(samples, tmp_path / "shards", quarantine=Quarantine())
    return str(tmp_path / "shards")


@pytest.fixture
def asked(tmp_path):
    """Two questions about each of three images: of that COCO id, of those bytes, of neither."""
    Image.new("RGB", (9, 9)).save(tmp_path / "COCO_val2014_000000000009.jpg")
    named = str(tmp_path / "COCO_val2014_000000000009.jpg")
    samples = [Sample("x", "q"), annotated(7), Sample("z", "q", picture(99), (48, 40))]
    files = [named, "", ""]
    return [
        Question(f"{n}/{sample.key}", sample, ASKED, image=file)
        for sample, file in zip(samples, files, strict=True)
        for n in range(2)
    ]


def test_images_are_found_by_coco_id_and_by_bytes_each_once(asked, shards, caplog):
    found = leakage("quiz", asked, [shards])
    assert found.record == {
        "folders": [shards],
        "samples": 3,
        "images": 3,
        "leaked": 2,
        "by_coco_id": 1,
        "by_bytes": 1,
        "not_compared": 0,
        "in_samples": 3,
    }
    [note] = found.notes
    assert note.startswith("2 of 3 images stand in the training data")
    assert note in caplog.text


def test_no_leak_says_how_much_was_looked_at_and_warns_of_nothing(asked, shards, caplog):
    found = leakage("quiz", asked[-2:], [shards])
    assert found.record["leaked"] == 0
    assert found.notes == [
        "No image stands in the training data: 1 images were looked for in 3 training samples, by "
        "COCO id and by their bytes."
    ]
    assert caplog.text == ""


def test_data_that_are_gone_are_named_and_stop_nothing(asked, tmp_path, shards, caplog):
    gone = str(tmp_path / "gone")
    found = leakage("quiz", asked, [gone, shards])
    assert found.record["leaked"] == 2
    assert found.notes[1].startswith(f"Training data that was not looked at: {gone} (no shards")
    assert gone in caplog.text
    only = leakage("quiz", asked, [gone])
    assert (only.record["samples"], len(only.notes)) == (0, 1)


def test_a_trainings_config_names_the_shards_of_the_stages_that_ran():
    def stage(**sources):
        return {"data": {"train": {name: {"shards": of} for name, of in sources.items()}}}

    config = {
        "run": ["align", "instruct"],
        "stages": {
            "align": stage(localization="shards/a", conversation=None),
            "instruct": stage(localization="shards/a", conversation="shards/b"),
            "encoder": stage(localization="shards/c"),
        },
    }
    assert training_shards(config) == ["shards/a", "shards/b"]


@pytest.mark.parametrize(
    "config",
    [None, [], {}, {"run": "x"}, {"run": [3], "stages": 4}, {"run": ["a"], "stages": {"a": None}}]
    + [{"run": ["a"], "stages": {"a": {"data": {"train": {"x": {"shards": {"_target_": "f"}}}}}}}],
)
def test_a_config_that_names_none_gives_none(config):
    assert training_shards(config) == []


def test_images_with_coco_names_are_told_and_others_not():
    name = "COCO_val2014_000000000009.jpg"
    [note] = coco_notes([name, name, f"{name}, mirrored", "n1.jpg"])
    assert note.startswith("1 images are of COCO")
    assert "RefCOCO" in note
    assert coco_notes(["000000000009.jpg", "photo.jpg"]) == []
