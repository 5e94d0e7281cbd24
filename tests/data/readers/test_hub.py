import importlib
import io

import pytest
from hypothesis import given
from PIL import Image

from locvlm.data import Quarantine
from locvlm.data.readers import HubReader, hub
from locvlm.errors import ConfigError, DataError
from tests.data.conftest import picture
from tests.data.readers.fuzz import JSON, broken, read_all

TURNS = [
    {"from": "human", "value": "<image>\nWhat is it?"},
    {"from": "gpt", "value": "A cat."},
]
CHAT = [
    {"role": "user", "content": "<image>\nWhat is it?"},
    {"role": "assistant", "content": "A cat."},
]
PIECES = [
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "A cat."}]},
]
SAID = [("What is it?",), ("A cat.",)]


def read(*rows, **options):
    quarantine = Quarantine()
    samples = HubReader("some/data", **options).samples(rows, quarantine)
    return {sample.key: sample for sample in samples}, quarantine


@pytest.mark.parametrize(
    "turns", [{"conversations": TURNS}, {"messages": CHAT}, {"messages": PIECES}]
)
def test_rows_become_conversations(turns):
    samples, quarantine = read({"image": picture(), **turns})
    assert [message.parts for message in samples["0"].messages] == SAID
    assert [message.role for message in samples["0"].messages] == ["user", "assistant"]
    assert (samples["0"].size, len(quarantine)) == ((48, 40), 0)


def test_columns_may_have_other_names():
    row = {"picture": picture(), "turns": TURNS, "conversations": None}
    samples, _ = read(row, image_column="picture", turns_column="turns")
    assert (samples["0"].size, len(samples["0"].messages)) == ((48, 40), 2)


def test_a_row_without_image_is_a_text_only_sample():
    samples, _ = read({"image": None, "messages": [CHAT[0] | {"content": "Hi"}, CHAT[1]]})
    assert samples["0"].image is samples["0"].size is None


def test_stored_bytes_stay_as_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(3))
    images = [picture(3), {"bytes": picture(3), "path": "/etc/passwd"}, "a.png", {"path": "a.png"}]
    rows = [{"image": image, "messages": CHAT} for image in images]
    samples, quarantine = read(*rows, images=str(tmp_path))
    assert {sample.image for sample in samples.values()} == {picture(3)}
    assert (len(samples), len(quarantine)) == (4, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK"])
def test_a_picture_is_encoded_without_loss(mode):
    shown = Image.open(io.BytesIO(picture())).convert(mode)
    samples, quarantine = read({"image": shown, "messages": CHAT})
    stored = Image.open(io.BytesIO(samples["0"].image))
    assert stored.size == (48, 40)
    assert stored.convert("RGB").tobytes() == shown.convert("RGB").tobytes()
    assert not len(quarantine)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "a.png", "messages": CHAT}, "image is a path"),
        ({"image": {"path": "/etc/passwd", "bytes": None}, "messages": CHAT}, "image is a path"),
        ({"image": 7, "messages": CHAT}, "image is neither bytes nor a path"),
        ({"image": b"words", "messages": CHAT}, "not an image in a known format"),
        ({"image": picture()}, "record without conversations"),
        ({"messages": CHAT}, "text refers to more images than the record has"),
        ({"image": picture(), "messages": CHAT[:1]}, "conversation without an answer"),
        ({"image": picture(), "messages": CHAT[::-1]}, "turns that do not alternate"),
        ({"image": picture(), "messages": [{"role": "user", "content": [7]}]}, "turn without text"),
        (
            {"image": picture(), "messages": [{"role": "tool", "content": "x"}]},
            "turn that is neither human's nor gpt's",
        ),
    ],
)
def test_a_bad_row_is_set_aside_and_the_others_stay(row, reason):
    samples, quarantine = read(row, {"image": picture(), "messages": CHAT})
    assert list(samples) == ["1"]
    assert list(quarantine.reasons) == [reason]


def test_a_question_without_an_answer_is_set_aside_and_the_others_stay():
    last = {"role": "user", "content": "And then?"}
    samples, quarantine = read({"image": picture(), "messages": [*CHAT, last]})
    assert [message.parts for message in samples["0"].messages] == SAID
    assert list(quarantine.reasons) == ["question without an answer"]


def test_a_path_never_leads_out_of_the_image_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").write_bytes(picture())
    row = {"image": "../a.png", "messages": CHAT}
    _, quarantine = read(row, images=str(tmp_path / "images"))
    assert list(quarantine.reasons) == ["image path is none below the image folder"]


def test_a_limit_asks_for_no_further_row():
    def rows():
        yield {"messages": [CHAT[0] | {"content": "Hi"}, CHAT[1]]}
        pytest.fail("this row was not needed")

    reader = HubReader("some/data", limit=1)
    assert len(list(reader.samples(rows(), Quarantine()))) == 1


@given(broken({"image": None, "conversations": TURNS}), broken({"image": None, "messages": CHAT}))
def test_any_row_may_be_broken_and_the_good_ones_around_it_stay(first, second):
    good = {"image": picture(), "messages": CHAT}
    samples, _ = read(good, first, second, good)
    assert [message.parts for message in samples["0"].messages] == SAID
    assert [message.parts for message in samples["3"].messages] == SAID


@given(JSON)
def test_an_image_column_may_hold_anything(value):
    samples, quarantine = read({"image": value, "conversations": TURNS})
    assert len(samples) + len(quarantine) == 1


def test_the_package_that_is_missing_is_named(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(hub, "import_module", missing)
    with pytest.raises(ConfigError, match="needs the package datasets") as error:
        read_all(HubReader("some/data"))
    assert error.value.fix == 'pip install "datasets>=4"'


def test_a_version_that_may_run_code_is_refused(monkeypatch):
    class Old:
        __version__ = "2.14.0"

    monkeypatch.setattr(hub, "import_module", lambda name: Old)
    with pytest.raises(ConfigError, match=r"datasets 2\.14\.0 may run code"):
        read_all(HubReader("some/data"))


def test_a_data_set_must_be_given():
    with pytest.raises(ConfigError, match="a data set is needed"):
        HubReader(None)


@pytest.fixture(scope="module")
def datasets():
    """The real package, which is no requirement."""
    try:
        return importlib.import_module("datasets")
    except ImportError:
        pytest.skip("the package datasets is not installed")


@pytest.fixture
def table(datasets):
    """Two rows with pictures, as the package holds them."""
    rows = {"image": [{"bytes": picture(n), "path": None} for n in (1, 2)], "messages": [CHAT] * 2}
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def test_reads_a_saved_folder_and_names_its_files(table, tmp_path):
    table.save_to_disk(str(tmp_path / "saved"))
    reader = HubReader(str(tmp_path / "saved"))
    samples, quarantine = read_all(reader)
    assert [sample.image for sample in samples.values()] == [picture(1), picture(2)]
    assert not len(quarantine)
    assert str(tmp_path / "saved" / "state.json") in reader.sources


def test_reads_a_split_of_a_saved_folder(table, tmp_path, datasets):
    datasets.DatasetDict({"val": table}).save_to_disk(str(tmp_path / "saved"))
    assert len(read_all(HubReader(str(tmp_path / "saved"), split="val"))[0]) == 2
    with pytest.raises(DataError, match="data set cannot be read"):
        read_all(HubReader(str(tmp_path / "saved")))


def test_streams_a_folder_of_parquet_files(table, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    table.to_parquet(str(tmp_path / "data" / "train.parquet"))
    samples, quarantine = read_all(HubReader(str(tmp_path / "data")))
    assert [sample.image for sample in samples.values()] == [picture(1), picture(2)]
    assert not len(quarantine)


def test_says_what_cannot_be_read(datasets, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="data set cannot be read"):
        read_all(HubReader(str(tmp_path / "data")))
    assert not list((tmp_path / "data").iterdir())
