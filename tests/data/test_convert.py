import json

import pytest
from PIL import Image

from locvlm.data.convert import convert_file, quarantine_file
from locvlm.dialects import Swift, ivb, kosmos2, llava, qwen_vl, shikra
from locvlm.errors import ConfigError, DataError


def said(*texts, **fields):
    roles = ("human", "gpt") * len(texts)
    turns = [{"from": role, "value": text} for role, text in zip(roles, texts, strict=False)]
    return {**fields, "conversations": turns}


SIZED = {"image": "a.png", "width": 640, "height": 480}
CAT = said("<image>\nWhere is the cat?", "At [0.25, 0.3, 0.5, 0.75].", id="cat", **SIZED)


@pytest.fixture
def files(tmp_path):
    """Writes records as a list, and gives the paths of input and output."""

    def make(*records):
        source = tmp_path / "in.json"
        source.write_text(json.dumps(records))
        return source, tmp_path / "out.json"

    return make


def test_only_the_text_of_turns_changes(files):
    record = {**CAT, "score": 0.1, "nested": {"é": [None, True, 12345678901234567890]}}
    source, output = files(record)
    done = convert_file(source, output, read=llava(), write=ivb(336))
    [made] = json.loads(output.read_text())
    assert made["conversations"][1] == {"from": "gpt", "value": "At [84, 78, 168, 280] bbox."}
    made["conversations"][1]["value"] = record["conversations"][1]["value"]
    assert made == record
    assert list(made) == list(record)
    assert (done.records, done.turns, done.locations, done.left) == (1, 2, 1, 0)
    assert not quarantine_file(output).exists()


def test_sizes_come_from_the_images_where_records_have_none(files, tmp_path):
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    source, output = files({**CAT, "width": None})
    with pytest.raises(ConfigError, match="size of an image is needed"):
        convert_file(source, output, read=llava(), write=shikra())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "in.json"]
    convert_file(source, output, read=llava(), write=shikra(), images=str(tmp_path))
    assert "At [0.250,0.300,0.500,0.750]." in output.read_text()


def test_records_without_locations_need_no_image(files):
    texts = said("[0.1, 0.2, 0.3, 0.4]?", "no image, no place"), said("<image>a", "b", image="no")
    source, output = files(*texts)
    done = convert_file(source, output, read=llava(), write=shikra())
    assert json.loads(output.read_text()) == list(texts)
    assert (done.records, done.locations, done.left) == (2, 0, 1)


def test_ms_swift_and_llava_texts_convert_both_ways(files, tmp_path):
    source, output = files(CAT)
    lines = tmp_path / "swift.jsonl"
    convert_file(source, lines, read=llava(), write=Swift())
    [made] = [json.loads(line) for line in lines.read_text().splitlines()]
    assert made["conversations"][1]["value"] == "At <bbox>."
    assert made["objects"] == {"ref": [], "bbox": [[160, 112, 320, 400]], "bbox_type": "real"}
    convert_file(lines, output, read=Swift(), write=llava())
    assert json.loads(output.read_text()) == [CAT]


def test_ms_swift_messages_keep_names_and_roles(tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    record = {
        "messages": [{"role": "assistant", "content": "<ref-object><bbox>!"}],
        "images": ["a.png"],
        "objects": {"ref": ["a dog"], "bbox": [[160, 120, 320, 240]]},
        "width": 640,
        "height": 480,
    }
    source.write_text(json.dumps(record))
    convert_file(source, output, read=Swift(), write=qwen_vl())
    made = json.loads(output.read_text())
    text = "<ref>a dog</ref><box>(250,250),(500,500)</box>!"
    assert made["messages"] == [{"role": "assistant", "content": text}]
    assert "objects" not in made


def test_what_cannot_be_converted_is_named_beside_the_output(files, tmp_path):
    bad = [
        {**CAT, "id": "lost", "width": None},
        {**CAT, "id": "two", "image": ["a.png", "b.png"]},
        {"id": "empty"},
        said("<image>", 7, id="number", **SIZED),
        ["no record"],
    ]
    source, output = files(*bad[:3], CAT, *bad[3:])
    done = convert_file(source, output, read=llava(), write=shikra(), images=str(tmp_path))
    assert [record["id"] for record in json.loads(output.read_text())] == ["cat"]
    aside = [json.loads(line) for line in quarantine_file(output).read_text().splitlines()]
    assert [(one["key"], one["reason"]) for one in aside] == [
        ("lost", "image file is missing"),
        ("two", "record with locations has 2 images, not one"),
        ("empty", "record without conversations or messages"),
        ("number", "turn without text"),
        ("5", "record without conversations or messages"),
    ]
    assert all(one["where"] for one in aside)
    assert (done.records, done.locations, len(done.quarantine)) == (1, 1, 5)


def test_what_the_target_cannot_express_is_set_aside(files):
    point = said("<image>?", "[0.250,0.500]", id="point", **SIZED)
    source, output = files(point, said("<image>?", "none", **SIZED))
    done = convert_file(source, output, read=shikra(), write=kosmos2())
    assert [one["key"] for one in done.quarantine.records] == ["point"]
    assert "boxes only" in done.quarantine.records[0]["reason"]


def test_lone_surrogates_and_broken_lines_do_no_harm(tmp_path):
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    record = json.dumps(said("\ud800", "ok"))
    source.write_text(f"{record}\n{{broken\n")
    done = convert_file(source, output, read=llava(), write=shikra())
    assert json.loads(output.read_text()) == json.loads(record)
    assert len(done.quarantine) == 1


def test_an_item_that_cannot_be_decoded_is_left_out_and_named(files):
    source, output = files(CAT)
    source.write_text(f"[{'[' * 10**5}{']' * 10**5},\n{json.dumps(CAT)}]")
    convert_file(source, output, read=llava(), write=ivb())
    assert [record["id"] for record in json.loads(output.read_text())] == ["cat"]
    [line] = quarantine_file(output).read_text().splitlines()
    assert json.loads(line)["reason"] == "malformed JSON: nested too deeply"
    assert json.loads(line)["where"] == f"{source}, line 1, column 2"


def test_an_output_that_is_there_is_replaced_only_when_asked(files):
    source, output = files(CAT)
    output.write_text("mine")
    quarantine_file(output).write_text("old")
    with pytest.raises(ConfigError, match="there already") as error:
        convert_file(source, output, read=llava(), write=shikra())
    assert "overwrite=true" in error.value.fix
    assert output.read_text() == "mine"
    convert_file(source, output, read=llava(), write=shikra(), overwrite=True)
    assert json.loads(output.read_text())
    assert not quarantine_file(output).exists()


def test_a_file_is_never_converted_into_itself(files, tmp_path):
    source, _ = files(CAT)
    link = tmp_path / "link.json"
    link.symlink_to(source)
    for output in (source, link):
        with pytest.raises(ConfigError, match="the same file"):
            convert_file(source, output, read=llava(), write=shikra(), overwrite=True)


@pytest.mark.parametrize("content", ["", "{}", '[{"id": 1}]', '[{"id": 1},'])
def test_a_file_without_usable_record_leaves_nothing(tmp_path, content):
    source = tmp_path / "in.json"
    source.write_text(content)
    with pytest.raises(DataError):
        convert_file(source, tmp_path / "out.json", read=llava(), write=shikra())
    assert [path.name for path in tmp_path.iterdir()] == ["in.json"]


def test_missing_files_and_folders_are_named(files, tmp_path):
    source, output = files(CAT)
    with pytest.raises(DataError, match="no such image folder"):
        convert_file(source, output, read=llava(), write=shikra(), images=str(tmp_path / "none"))
    with pytest.raises(DataError, match="cannot read this file"):
        convert_file(tmp_path / "none.json", output, read=llava(), write=shikra())
