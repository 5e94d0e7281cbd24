import json
from dataclasses import dataclass

import pytest
from PIL import Image

from locvlm.data import Quarantine
from locvlm.data.readers import LlavaReader
from locvlm.dialects import llava, qwen_vl
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box


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


@pytest.mark.parametrize("role", ["system", "gpt"])
def test_what_is_said_before_the_first_question_is_left_out(read, role):
    talk = record("q", "a")
    talk["conversations"].insert(0, {"from": role, "value": "You see a picture."})
    [sample], _ = read(talk)
    assert [message.parts for message in sample.messages] == [("q",), ("a",)]


TWICE = [{"from": "human", "value": "q"}, {"from": "human", "value": "q"}]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"id": "x"}, "record without conversations"),
        ("text", "record without conversations"),
        (record("q", ""), "conversation without an answer"),
        (record("q"), "conversation without an answer"),
        (record("q", "a", image="none.png"), "image file is missing"),
        ({"conversations": [{"from": "gpt", "value": "a"}]}, "record without conversations"),
        ({"conversations": TWICE}, "turns that do not alternate"),
        ({"conversations": [{"from": "cat", "value": "a"}]}, "neither human's nor gpt's"),
        ({"conversations": [{"from": "human", "value": 3}]}, "turn without text"),
    ],
)
def test_a_bad_record_is_set_aside_and_the_others_stay(read, bad, reason):
    samples, quarantine = read(bad, record("q", "a"))
    assert len(samples) == 1
    assert [kind for kind in quarantine.reasons if reason in kind]


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(DataError, match="^cannot read this file: No such file"):
        next(LlavaReader(str(tmp_path / "no.json"), str(tmp_path)).read(Quarantine()))


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


@dataclass(frozen=True)
class Halves:
    """Reads `<half>` as the left half of the image."""

    def read(self, text, size):
        before, mark, after = text.partition("<half>")
        return (before, Box(0, 0, size[0] / 2, size[1]), after) if mark else (text,)


def test_a_dialect_turns_text_into_locations_of_the_original_image(tmp_path, read):
    read(record("<image>\nWhat is in <half>?", "A dog in <half>."))
    file = str(tmp_path / "chat.json")
    [sample] = LlavaReader(file, str(tmp_path), Halves()).read(Quarantine())
    box = Box(0, 0, 4, 6)
    assert [m.parts for m in sample.messages] == [
        ("What is in ", box, "?"),
        ("A dog in ", box, "."),
    ]


def test_boxes_of_llavas_mix_lie_on_the_padded_square(tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    file = tmp_path / "mix.json"
    chat = record("Where is it?\n<image>", "[0.25, 0.3, 0.5, 0.75]")
    text_only = record("Say [0.1, 0.2, 0.3, 0.4]", "No.")
    del text_only["image"]
    file.write_text(json.dumps([chat, text_only]))
    located, plain = LlavaReader(str(file), str(tmp_path), llava()).read(Quarantine())
    assert located.messages[1].parts == (Box(160, 112, 320, 400),)
    assert plain.messages[0].parts == ("Say [0.1, 0.2, 0.3, 0.4]",)


def test_a_folder_is_asked_for_at_the_first_record_with_an_image(tmp_path, read):
    plain = record("Hi", "Hello")
    del plain["image"]
    read(plain, record("q", "a"))
    samples = LlavaReader(str(tmp_path / "chat.json"), None).read(Quarantine())
    assert next(samples).image is None
    with pytest.raises(ConfigError, match="a folder of images is needed"):
        next(samples)


def test_a_file_that_is_cut_short_is_named_with_the_place(tmp_path, read):
    read(record("q", "a"))
    file = tmp_path / "chat.json"
    file.write_text(file.read_text()[:-1])
    with pytest.raises(DataError, match="the file ends early") as error:
        list(LlavaReader(str(file), str(tmp_path)).read(Quarantine()))
    assert "line 1" in error.value.where


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("ferretui_train_data_example.json", {"image file is missing": 3}),
        ("qa90_questions_first45.jsonl", {"record without conversations": 45}),
        ("qa90_gpt4_answer_first45.jsonl", {"record without conversations": 45}),
        ("coco2014_val_gpt4_qa_30x3_first45.jsonl", {"record without conversations": 45}),
    ],
)
def test_real_files_without_conversations_or_images_are_set_aside_whole(real_data, name, reasons):
    quarantine = Quarantine()
    folder = real_data / "llava_format"
    assert list(LlavaReader(str(folder / name), str(folder)).read(quarantine)) == []
    assert quarantine.reasons == reasons


@pytest.mark.parametrize("image", ["a.png", ["a.png"]])
def test_a_list_of_one_image_is_that_image(read, image):
    [sample], _ = read(record("<image>\nq", "a", image=image))
    assert (sample.size, sample.extra["image"]) == ((8, 6), "a.png")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"image": ["a.png", "a.png"]}, "record with more images than one"),
        ({"image": None, "video": "a.mp4"}, "record with video: images are read, nothing else"),
    ],
)
def test_other_media_are_set_aside_and_never_read_as_text(read, fields, reason):
    samples, quarantine = read(record("<video>\nq", "a", **fields))
    assert samples == []
    assert [one["reason"] for one in quarantine.records] == [reason]


def test_the_marker_may_stand_in_a_later_question(read):
    [sample], _ = read(record("Hi", "Hello", "<image>\nWhat is it?", "A dog in <image>."))
    assert [one.parts for one in sample.messages[2:]] == [("What is it?",), ("A dog in <image>.",)]
    samples, quarantine = read(record("<image>\nHi", "Hello", "<image>\nWhat is it?", "A dog."))
    assert samples == []
    assert list(quarantine.reasons) == ["text refers to more images than the record has"]


def test_reads_qwen_vl_records_which_name_their_image_in_the_text(tmp_path):
    Image.new("RGB", (1000, 1000)).save(tmp_path / "a.png")
    said = [
        ("user", "Picture 1: <img>a.png</img>\nWhat is it?"),
        ("assistant", "A shirt."),
        ("user", "Frame it"),
        ("assistant", "<ref>shirt</ref><box>(588,499),(725,789)</box>"),
    ]
    turns = [{"from": speaker, "value": text} for speaker, text in said]
    file = tmp_path / "qwen.json"
    file.write_text(json.dumps([{"id": "identity_1", "conversations": turns}]))
    [sample] = LlavaReader(str(file), str(tmp_path), qwen_vl()).read(Quarantine())
    assert sample.extra["image"] == "a.png"
    assert sample.messages[0].parts == ("What is it?",)
    assert sample.messages[3].parts == ("shirt", Box(588, 499, 725, 789))
