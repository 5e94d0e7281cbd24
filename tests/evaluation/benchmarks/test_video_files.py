import json
from collections import Counter

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.video_files import (
    read_activitynet_qa,
    read_open_ended_qa,
    read_tgif_frameqa,
)

QUESTION = {"video_name": "-x_1", "question": "is it dark", "question_id": "v_-x_1_3"}
ANSWER = {"answer": "no", "type": 3, "question_id": "v_-x_1_3"}
TABLE = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\r\n"
ROW = "tumblr_1\twho ?\tman\t{}\tFRAMEQA7\t9\ta man .\r\n"


def write(folder, name, value):
    file = folder / name
    file.write_text(value if isinstance(value, str) else json.dumps(value), newline="")
    return str(file)


def test_real_questions_of_activitynet(real_data):
    folder = real_data / "activitynet_qa"
    found = read_activitynet_qa(str(folder / "test_q_200.json"), str(folder / "test_a_200.json"))
    assert len(found.asked) == 200
    assert not found.left_out
    assert found.asked[0] == (
        "v_1QIUV7WYKXg_3",
        "1QIUV7WYKXg",
        "is the athlete wearing trousers",
        "no",
        "yes_no",
    )
    assert Counter(one.kind for one in found.asked) == {"yes_no": 198, "location": 1, "other": 1}


def test_real_questions_of_frameqa(real_data):
    file = real_data / "tgif_qa" / "Test_frameqa_question_extract.csv"
    found = read_tgif_frameqa(str(file))
    assert len(found.asked) == 61
    assert found.asked[0].id == "FRAMEQA1159"
    assert found.asked[0].video == "tumblr_no73q2fm0I1uuf348o1_250"
    assert {one.gold for one in found.asked if one.id == "FRAMEQA14461"} == {"brown"}
    assert {one.kind for one in found.asked} == {"object", "number", "color", "location"}


def test_activitynets_free_questions_are_all_but_three_kinds(tmp_path):
    files = write(tmp_path, "q.json", [QUESTION]), write(tmp_path, "a.json", [ANSWER])
    kinds = read_activitynet_qa(*files).kinds
    assert set(kinds["free"]) == set(kinds) - {"motion", "spatial", "temporal", "free"}
    assert "yes_no" in kinds["free"]


def test_records_without_their_other_half_are_counted(tmp_path):
    questions = [QUESTION, {**QUESTION, "question_id": "q"}]
    answers = [ANSWER, {**ANSWER, "question_id": "a"}, {**ANSWER, "question_id": "b"}]
    files = write(tmp_path, "q.json", questions), write(tmp_path, "a.json", answers)
    found = read_activitynet_qa(*files)
    assert [one.id for one in found.asked] == ["v_-x_1_3"]
    assert found.left_out == {
        "question without annotation": 1,
        "annotation without question": 2,
    }


@pytest.mark.parametrize("as_lines", [False, True])
def test_open_ended_questions_are_an_array_or_lines(tmp_path, as_lines):
    records = [
        {"answer": "talk", "category_id": 1, "id": 7, "question": "what do two do?", "video_id": 5},
        {"answer": "man", "id": 8, "question": "Who runs?", "video_id": "vid2"},
        {"answer": "man", "id": 9, "question": "is it?", "video_id": "vid2"},
    ]
    text = "\n".join(map(json.dumps, records)) if as_lines else records
    found = read_open_ended_qa(write(tmp_path, "test_qa.json", text))
    assert found.asked[0] == ("7", "5", "what do two do?", "talk", "what")
    assert [one.kind for one in found.asked] == ["what", "who", "other"]


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (QUESTION, {**ANSWER, "type": 9}, "type is '9', not 0 to 8"),
        (QUESTION, {**ANSWER, "type": True}, "no text at 'type'"),
        (QUESTION, {**ANSWER, "question_id": "other"}, "none of its 1 questions has an answer"),
        (QUESTION, 3, "no text at 'question_id'"),
        ({**QUESTION, "question": None}, ANSWER, "no text at 'question'"),
    ],
)
def test_another_file_is_no_activitynet(tmp_path, question, answer, message):
    files = write(tmp_path, "q.json", [question]), write(tmp_path, "a.json", [answer])
    with pytest.raises(DataError, match=message):
        read_activitynet_qa(*files)


def test_a_kind_that_frameqa_does_not_have_is_refused_with_its_line(tmp_path):
    file = write(tmp_path, "t.csv", TABLE + ROW.format(0) + ROW.format("²"))
    with pytest.raises(DataError, match="type is '²'") as error:
        read_tgif_frameqa(file)
    assert error.value.where == f"{file}, line 3"
