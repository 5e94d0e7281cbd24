import json

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.gqa import Gqa, prediction
from tests.evaluation.conftest import answered, values


def record(answer, structural="verify", semantic="obj", *, balanced=True, entailed=()):
    return {
        "question": "Is it there?",
        "imageId": "n1",
        "isBalanced": balanced,
        "answer": answer,
        "types": {"structural": structural, "semantic": semantic, "detailed": "x"},
        "entailed": list(entailed),
    }


RECORDS = {
    "01": record("yes", entailed=["01", "04", "05"]),
    "02": record("picture", "query", "rel", entailed=["04"]),
    "03": record("no", "logical", "attr"),
    "04": record("no", balanced=False),
    "05": record("yes", balanced=False),
    "06": record("yes", balanced=False),
}


def write(folder, records, name="questions.json"):
    file = folder / name
    file.write_text(json.dumps(records))
    return file


@pytest.fixture
def gqa(tmp_path):
    return Gqa(write(tmp_path, RECORDS))


def score(gqa, texts):
    asked = [question for question in gqa.questions() if question.meta["id"] in texts]
    return gqa.score(answered(asked, lambda question: texts[question.meta["id"]]), None)


def test_the_figures_of_the_official_program_are_percent_of_balanced_questions(gqa):
    found = score(gqa, {"01": "yes", "02": "A picture.", "03": "No.", "04": "no", "05": "no"})
    assert gqa.figures(found) == {
        "accuracy": 66.67,
        "contains": 100.0,
        "binary": 100.0,
        "open": 0.0,
        "consistency": 50.0,  # of the right ones only 01 entails something, and half of it is right
        "structural.verify": 100.0,
        "structural.query": 0.0,
        "structural.logical": 100.0,
        "semantic.obj": 100.0,
        "semantic.rel": 0.0,
        "semantic.attr": 100.0,
    }
    assert found.counts["unbalanced, for consistency"] == 2
    assert [item.key for item in found.items] == ["gqa/01", "gqa/02", "gqa/03"]


def test_only_unbalanced_questions_that_are_entailed_are_asked(gqa):
    assert [question.meta["id"] for question in gqa.questions()] == ["01", "02", "03", "04", "05"]
    assert score(gqa, {"01": "yes"}).counts["left out: unbalanced, entailed by none"] == 1


def test_consistency_stands_on_entailed_questions_with_an_answer(gqa):
    found = score(gqa, {"01": "yes", "02": "chair", "04": "no"})
    assert gqa.figures(found)["consistency"] == 100
    assert found.counts["entailed questions without an answer"] == 1


def test_without_entailed_answers_there_is_no_consistency(gqa):
    found = score(gqa, {"01": "yes", "02": "picture"})
    assert "consistency" not in gqa.figures(found)
    assert found.counts["entailed questions without an answer"] == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("Picture", "picture"), (" yes. \n", "yes"), ("yes...", "yes"), ("no, sir.", "no, sir")],
)
def test_the_last_stops_and_capitals_do_not_count(text, said):
    assert prediction(text) == said


def test_answers_in_sentences_count_where_they_contain_the_right_one(gqa):
    found = values(score(gqa, {"02": "It is a picture of pictures", "03": "There is nothing"}))
    assert found["gqa.accuracy"] == 0
    assert found["gqa.contains"] == 0.5


def test_reads_real_files_and_folders_of_them(real_data):
    folder = real_data / "gqa"
    gqa = Gqa(folder / "question_dir", images=folder / "images")
    assert len(gqa.files) == 2
    assert [question.image for question in gqa.questions()] == [
        str(folder / "images" / "n578564.jpg")  # the other one is not balanced
    ]
    one = Gqa(folder / "questions.json")
    found = one.figures(score(one, {"202218649": "Picture."}))
    assert found["accuracy"] == found["structural.query"] == found["semantic.rel"] == 100


def test_the_parts_of_a_folder_are_read_by_their_names(tmp_path):
    for key in "2031":
        write(tmp_path, {key: record("yes")}, f"part_{key}.json")
    assert [question.meta["id"] for question in Gqa(tmp_path).questions()] == list("0123")


def test_reads_answers_of_the_official_program_and_of_llava(gqa, real_data, tmp_path):
    file = tmp_path / "testdev_predictions.json"
    file.write_text(json.dumps([{"questionId": "01", "prediction": "yes"}]))
    assert gqa.read_answers(file).texts == {"01": "yes"}
    lines = gqa.read_answers(real_data / "gqa" / "answers_llava-v1.5-13b_first60.jsonl")
    assert len(lines.texts) == 60
    assert lines.texts["201307251"] == "No"


def test_answers_to_questions_that_do_not_count_are_no_unknown_ones(gqa, tmp_path):
    file = tmp_path / "answers.json"
    file.write_text(json.dumps([{"questionId": k, "prediction": "yes"} for k in ("01", "06", "7")]))
    assert gqa.read_answers(file).texts == {"01": "yes", "7": "yes"}


def test_the_submission_can_be_scored_again(gqa, tmp_path):
    answers = answered(gqa.questions(), lambda question: f"{question.meta['gold'].title()}.")
    sent = gqa.submission(answers)
    assert sent.name == "gqa_predictions.json"
    assert json.loads(sent.text)[1] == {"questionId": "02", "prediction": "picture"}
    file = tmp_path / sent.name
    file.write_text(sent.text)
    found = gqa.score(match(gqa.questions(), gqa.read_answers(file)).answers, None)
    assert gqa.figures(found)["accuracy"] == gqa.figures(found)["consistency"] == 100


def test_questions_of_a_test_split_are_all_asked_and_not_scored(tmp_path):
    asked = {key: {"question": "?", "imageId": "n1", "isBalanced": key == "1"} for key in "123"}
    gqa = Gqa(write(tmp_path, asked))
    found = score(gqa, dict.fromkeys("123", "yes"))
    assert not found.metrics
    assert not found.items
    assert found.counts["not scored, without a right answer"] == 3


@pytest.mark.parametrize(
    "change",
    [{"question": ...}, {"imageId": ...}, {"isBalanced": ...}, {"types": 3}, {"entailed": 3}],
)
def test_a_question_that_lacks_something_is_named(tmp_path, change):
    broken = {key: value for key, value in (record("yes") | change).items() if value is not ...}
    file = write(tmp_path, {"1": record("yes"), "2": broken})
    with pytest.raises(DataError, match="no question of GQA") as error:
        Gqa(file)
    assert error.value.where == f"{file}, question '2'"


def test_files_of_another_kind_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.json files"):
        Gqa(tmp_path)
    with pytest.raises(DataError, match="no balanced question"):
        Gqa(write(tmp_path, {"06": RECORDS["06"]}))
    with pytest.raises(DataError, match="no file of GQA"):
        Gqa(write(tmp_path, [record("yes")]))
