import json

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.pope import Pope
from tests.evaluation.conftest import answered, values

LABELS = {"1": "yes", "2": "no", "3": "yes", "4": "no"}


def records(labels=LABELS):
    return [
        {"question_id": int(key), "image": "a.jpg", "text": f"Is there {key}?", "label": label}
        for key, label in labels.items()
    ]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "coco_pope_random.json"
    path.write_text("\n".join(map(json.dumps, records())))
    return path


def score(pope, texts):
    return pope.score(answered(pope.questions(), lambda q: texts[q.meta["id"]]), None)


def test_agrees_with_the_official_program_on_real_answers(real_data):
    folder = real_data / "pope"
    pope = Pope(folder / "coco_pope_random_40images.json")
    given = pope.read_answers(folder / "answers_llava-v1.5-7b_random_40images.jsonl")
    found = pope.score(match(pope.questions(), given).answers, None)
    expected = json.loads((real_data / "expected" / "expected.json").read_text())
    official = expected["pope"]["llava-v1.5-7b_random_40images"]["pope_evaluate_py"]
    figures = pope.figures(found)
    for name in ("accuracy", "precision", "recall", "f1", "yes_ratio"):
        assert figures[name] == pytest.approx(official[name], abs=1e-12)


def test_answers_without_ids_are_in_the_order_of_the_questions(file, tmp_path):
    texts = ["Yes", "no", "no", "No."]
    said = [{"question": f"Is there {n}?", "answer": text} for n, text in enumerate(texts, start=1)]
    answers = tmp_path / "answers.json"
    answers.write_text("\n".join(map(json.dumps, said)))
    pope = Pope(file)
    matched = match(pope.questions(), pope.read_answers(answers))
    assert [answer.text for answer in matched.answers] == texts
    assert matched.counts == {"questions": 4, "answered": 4}
    answers.write_text("\n".join(map(json.dumps, said[1:])))
    with pytest.raises(DataError, match="3 of its 3 answers are to other questions"):
        match(pope.questions(), pope.read_answers(answers))
    answers.write_text("\n".join(map(json.dumps, [*said, {"answer": "yes"}])))
    with pytest.raises(DataError, match="there is no text at 'question_id'"):
        pope.read_answers(answers)


def test_the_five_figures(file):
    found = values(score(Pope(file), {"1": "Yes", "2": "Yes, I see", "3": "No.", "4": "no"}))
    assert found["pope.accuracy"] == 0.5
    assert found["pope.precision"] == 0.5
    assert found["pope.recall"] == 0.5
    assert found["pope.f1"] == 0.5
    assert found["pope.yes_ratio"] == 0.5


def test_an_answer_that_says_neither_counts_as_yes_and_is_counted(file):
    found = values(score(Pope(file), dict.fromkeys(LABELS, "Perhaps")))
    assert found["pope.yes_ratio"] == 1
    assert found["pope.parse_failures"] == 1


def test_items_say_how_each_answer_came_out(file):
    found = score(Pope(file), {"1": "no", "2": "yes", "3": "yes", "4": "no"})
    assert [item.outcome for item in found.items] == ["false no", "false yes", "right", "right"]
    assert found.items[0].question == "Is there 1?"
    assert found.items[0].wanted == "yes"
    assert [item.said for item in found.items[:2]] == ["no", "yes"]


def test_arrays_are_read_as_well_as_json_lines(file, tmp_path):
    array = tmp_path / "array.json"
    array.write_text(json.dumps(records(), indent=4))
    keys = [question.key for question in Pope(file).questions()]
    assert [question.key for question in Pope(array).questions()] == keys


def test_the_prompt_is_filled_with_the_question(file):
    question = Pope(file, prompt="{question}\nOne word.").questions()[0]
    assert question.messages[-1].parts == ("Is there 1?\nOne word.",)


def test_questions_of_its_form_about_other_images_have_another_name(file):
    found = score(Pope(file, name="hal_coco", title="Hal-COCO"), dict.fromkeys(LABELS, "no"))
    assert values(found)["hal_coco.accuracy"] == 0.5
    assert {metric.table for metric in found.metrics} == {"Hal-COCO"}


def test_questions_about_videos_say_so(file):
    assert Pope(file).about == "image"
    lines = [{"video" if key == "image" else key: v for key, v in r.items()} for r in records()]
    file.write_text("\n".join(map(json.dumps, lines)))
    pope = Pope(file)
    assert pope.about == "video"
    assert pope.questions()[0].sample.key == "a.jpg"


@pytest.mark.parametrize(
    "record",
    [{"question_id": 1, "image": "a.jpg", "text": "?"}, {**records()[0], "label": "maybe"}, 7],
)
def test_a_file_of_another_kind_is_refused_with_its_line(tmp_path, record):
    file = tmp_path / "other.json"
    file.write_text(json.dumps(record))
    with pytest.raises(DataError, match="no question of POPE") as error:
        Pope(file)
    assert error.value.where == f"{file}, line 1"
