import json

import pytest

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.vqav2 import Vqav2
from tests.evaluation.conftest import answered, values

NAME = "COCO_val2014_{id:012d}.jpg"
HUMANS = {7001: ["yes"] * 10, 7002: ["2"] * 2 + ["3"] * 8, 8001: ["a red cat", *["cat"] * 9]}
TYPES = {
    7001: ("yes/no", "is the"),
    7002: ("number", "how many"),
    8001: ("other", "what is the"),
}


def question(key):
    return {"question_id": key, "image_id": key // 1000, "question": f"What of {key}?"}


def annotation(key):
    answer_type, question_type = TYPES[key]
    return {
        "question_id": key,
        "answer_type": answer_type,
        "question_type": question_type,
        "answers": [
            {"answer": text, "answer_confidence": "yes", "answer_id": n}
            for n, text in enumerate(HUMANS[key], start=1)
        ],
    }


def write(folder, name, **content):
    file = folder / f"{name}.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def questions(tmp_path):
    return write(
        tmp_path, "questions", data_subtype="val2014", questions=[question(key) for key in HUMANS]
    )


@pytest.fixture
def annotations(tmp_path):
    return write(tmp_path, "annotations", annotations=[annotation(key) for key in HUMANS])


def score(vqa, texts):
    asked = [question for question in vqa.questions() if question.meta["id"] in texts]
    return vqa.score(answered(asked, lambda question: texts[question.meta["id"]]), None)


def test_equals_the_official_program_on_real_answers(real_data, tmp_path):
    folder = real_data / "vqa_v2"
    records = json.loads((folder / "annotations_180.json").read_text())["annotations"]
    first = {record["question_id"]: record["answers"][0]["answer"] for record in records}
    results = tmp_path / "results.json"
    results.write_text(json.dumps([{"question_id": k, "answer": v} for k, v in first.items()]))
    vqa = Vqav2(folder / "questions_180.json", folder / "annotations_180.json")
    found = vqa.score(match(vqa.questions(), vqa.read_answers(results)).answers, None)
    expected = json.loads((real_data / "expected" / "expected.json").read_text())
    official = expected["vqa_v2"]["first_human_answer_as_prediction"]
    assert vqa.figures(found) == {
        "overall": official["overall"],
        "yes_no": official["perAnswerType"]["yes/no"],
        "number": official["perAnswerType"]["number"],
        "other": official["perAnswerType"]["other"],
    }
    by_type = {
        key.removeprefix("question_type."): round(100 * value, 2)
        for key, value in found.values.items()
        if key.startswith("question_type.")
    }
    assert by_type == official["perQuestionType"]


def test_reads_files_with_the_official_header_which_names_the_images(real_data):
    folder = real_data / "vqa_v2" / "with_official_header"
    files = folder / "questions.json", folder / "annotations.json"
    vqa = Vqav2(*files, images=folder / "images")
    assert {question.sample.key for question in vqa.questions()} == {
        "COCO_train2014_000000458752.jpg"
    }
    found = score(vqa, {"458752000": "net", "458752001": "pitcher", "458752002": "Orange"})
    assert vqa.figures(found) == {"overall": pytest.approx(66.67)}  # its types are not given


def test_each_type_of_answer_has_its_figure(questions, annotations):
    vqa = Vqav2(questions, annotations)
    found = score(vqa, {"7001": "yes", "7002": "2", "8001": "A cat."})
    assert vqa.figures(found) == {"overall": 86.67, "yes_no": 100, "number": 60, "other": 100}
    assert values(found)["vqav2.question_type.how many"] == pytest.approx(0.6)
    assert [item.outcome for item in found.items] == ["right", "right for some", "right"]
    assert found.items[1].wanted == "3"


def test_only_answered_questions_count(questions, annotations):
    vqa = Vqav2(questions, annotations)
    assert vqa.figures(score(vqa, {"7002": "3"})) == {"overall": 100, "number": 100}


def test_without_annotations_questions_are_asked_and_not_scored(questions):
    vqa = Vqav2(questions)
    assert len(vqa.questions()) == 3
    found = score(vqa, dict.fromkeys(["7001", "7002", "8001"], "yes"))
    assert not found.metrics
    assert not found.items
    assert found.counts["not scored, without human answers"] == 3


def test_questions_that_lack_their_annotation_are_counted(questions, tmp_path):
    some = write(tmp_path, "some", annotations=[annotation(7001)])
    found = score(Vqav2(questions, some), {"7001": "yes", "7002": "3"})
    assert found.counts["not scored, without human answers"] == 1
    assert [item.key for item in found.items] == ["vqav2/7001"]


def test_the_submission_holds_all_answers_as_the_server_reads_them(questions):
    vqa = Vqav2(questions)
    answers = answered(vqa.questions(), lambda question: f"it's {question.meta['id']}\ud800")
    file = vqa.submission(answers)
    assert file.name == "vqav2_results.json"
    assert json.loads(file.text)[0] == {"question_id": 7001, "answer": "it's 7001\ud800"}
    file.text.encode()


@pytest.mark.parametrize(
    ("subtype", "image"),
    [
        ("val2014", "COCO_val2014_000000000042.jpg"),
        ("test2015", "COCO_test2015_000000000042.jpg"),
        ("test-dev2015", "COCO_test2015_000000000042.jpg"),
    ],
)
def test_images_are_named_as_the_header_says(tmp_path, subtype, image):
    (tmp_path / image).touch()
    file = write(tmp_path, "q", data_subtype=subtype, questions=[question(42000)])
    assert Vqav2(file, images=tmp_path).questions()[0].image == str(tmp_path / image)


@pytest.mark.parametrize("subtype", [None, "", "../val2014", "{id.__class__}2014"])
def test_files_without_header_need_the_name_of_the_images(tmp_path, subtype):
    (tmp_path / NAME.format(id=42)).touch()
    file = write(tmp_path, "q", data_subtype=subtype, questions=[question(42000)])
    with pytest.raises(ConfigError, match="of which part of COCO"):
        Vqav2(file, images=tmp_path)
    vqa = Vqav2(file, images=tmp_path, image_name=NAME)
    assert vqa.questions()[0].sample.key == "COCO_val2014_000000000042.jpg"


@pytest.mark.parametrize("pattern", ["{name}.jpg", "{id", "{}", "{id:q}"])
def test_a_name_that_no_id_fits_is_refused(questions, pattern):
    with pytest.raises(ConfigError, match="makes no name"):
        Vqav2(questions, image_name=pattern)


def test_the_prompt_is_filled_with_the_question(questions):
    asked = Vqav2(questions, prompt="{question}\nOne word.").questions()[0]
    assert asked.messages[-1].parts == ("What of 7001?\nOne word.",)


def test_annotations_of_another_split_are_refused(questions, tmp_path):
    other = write(tmp_path, "other", annotations=[annotation(7001) | {"question_id": 1}])
    with pytest.raises(DataError, match="none of its 1 annotations is of a question in"):
        Vqav2(questions, other)


@pytest.mark.parametrize("content", [[], {"annotations": []}, {"questions": {}}])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="no file of VQA's questions"):
        Vqav2(file)


@pytest.mark.parametrize(
    "change",
    [{"question_id": None}, {"image_id": "a.jpg"}, {"image_id": float("inf")}, {"question": ...}],
)
def test_a_question_that_lacks_something_is_named(tmp_path, change):
    broken = {key: value for key, value in (question(1) | change).items() if value is not ...}
    file = write(tmp_path, "q", questions=[question(2), broken])
    with pytest.raises(DataError, match="no question of VQA") as error:
        Vqav2(file)
    assert error.value.where == f"{file}, question 2"


@pytest.mark.parametrize(
    "answers", [[], None, ["yes"] * 10, [{"answer": 2}], [{"text": "yes"}], [7]]
)
def test_an_annotation_that_lacks_something_is_named(questions, tmp_path, answers):
    file = write(tmp_path, "a", annotations=[annotation(7001) | {"answers": answers}])
    with pytest.raises(DataError, match="no annotation of VQA") as error:
        Vqav2(questions, file)
    assert error.value.where == f"{file}, annotation 1"
