import json

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.captions import Captions
from locvlm.score import main
from tests.evaluation.conftest import answered, values

pytest.importorskip("pycocoevalcap")

SAID = {7: ["a black dog runs", "dog in the grass"], "0008": ["two red cars"], 9: ["an old man"]}


def references(said=SAID, **more):
    rows = [{"image_id": key, "caption": text} for key, of in said.items() for text in of]
    return {"annotations": rows, **more}


@pytest.fixture
def file(tmp_path):
    def write(content, name="captions_val2014.json"):
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path / name

    return write


def test_one_question_for_each_image_with_all_its_captions(file):
    found = Captions(file(references()), tokenizer="plain").questions()
    assert [question.meta["id"] for question in found] == ["7", "0008", "9"]
    assert found[0].meta["references"] == SAID[7]
    assert found[0].messages[-1].parts == (
        "Provide a one-sentence caption for the provided image.",
    )


def test_images_have_the_files_that_the_references_name(file, tmp_path):
    (tmp_path / "seven.jpg").touch()
    images = [{"id": 7, "file_name": "seven.jpg"}, {"id": 9, "file_name": "gone.jpg"}]
    captions = Captions(file(references(images=images)), images=tmp_path, tokenizer="plain")
    assert [question.image for question in captions.questions()] == [str(tmp_path / "seven.jpg")]
    found = captions.score(answered(captions.questions(), lambda question: "a dog"), None)
    assert found.counts == {"images": 1, "left out: image absent": 2}


def test_items_show_the_references_and_how_near_an_answer_is(file):
    captions = Captions(file(references()), tokenizer="plain")
    texts = {"7": "a black dog runs", "0008": "\x00||| \n", "9": "an old man"}
    found = captions.score(answered(captions.questions(), lambda q: texts[q.meta["id"]]), None)
    assert values(found)["captions.cider_plain"] > 3
    assert [item.outcome for item in found.items] == ["some words match", "no word matches"] + [
        "some words match"
    ]
    assert found.items[0].wanted == "a black dog runs / dog in the grass"


@pytest.mark.slow
@pytest.mark.usefixtures("java_programs")
def test_the_command_prints_the_official_numbers_of_real_captions(real_data, file, capsys):
    lines = real_data / "captions" / "caps_boxes_coco2014_val_first40.jsonl"
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    truth = file(references({row["id"]: row["captions"][1:] for row in rows}))
    said = [{"image_id": row["id"], "caption": row["captions"][0]} for row in rows]
    main(["benchmark=captions", f"references={truth}", f"answers={file(said, 'results.json')}"])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = json.loads((real_data / "expected" / "expected.json").read_text())["captions"]
    official = expected["caps_boxes_first40_first_caption_vs_other_four"]["corpus"]
    assert figures["meteor"] == pytest.approx(official["METEOR"], abs=1e-12)
    assert figures["cider"] == pytest.approx(official["CIDEr"], abs=1e-12)
    assert figures["n"] == 40


def test_answers_are_read_in_cocos_results_format(file):
    captions = Captions(file(references()), tokenizer="plain")
    rows = [{"image_id": 7, "caption": "a dog"}, {"image_id": "0008", "caption": ""}]
    matched = match(captions.questions(), captions.read_answers(file(rows, "results.json")))
    assert [answer.text for answer in matched.answers] == ["a dog", ""]
    assert matched.counts["questions without an answer"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "no captions"),
        ({"annotations": []}, "no captions"),
        ({"annotations": {"a": 1}}, "no captions"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}, "this is no caption"),
        ({"annotations": [7]}, "this is no caption"),
        ({"annotations": [{"image_id": None, "caption": "a"}]}, "this is no caption"),
    ],
)
def test_another_file_is_refused(file, content, message):
    path = file(content)
    with pytest.raises(DataError, match=message) as error:
        Captions(path, tokenizer="plain")
    assert error.value.where.startswith(str(path))
