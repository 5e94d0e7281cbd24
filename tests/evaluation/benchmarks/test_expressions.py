import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.expressions import (
    read_expressions,
    read_predictions,
    recorded_boxes,
)
from locvlm.types import Box

CUT_OUTS = ["COCO_train2014_000000266240_0.jpg"]


def record(sent="left cat", **more):
    return {"sent": sent, "gt_box": [1, 2, 3, 4], **more}


@pytest.fixture
def file(tmp_path):
    def write(*records):
        (tmp_path / "x.json").write_text(json.dumps(records))
        return tmp_path / "x.json"

    return write


def test_an_expression_has_its_box_in_corners_and_its_place_as_id(file):
    rows = [record(), record(id="b", image="a.jpg", width=40, height=30)]
    first, second = read_expressions(file(*rows))
    assert read_expressions(file(record(sent_id=7)))[0].id == "7"
    assert first[:5] == ("0", "", "left cat", Box(1, 2, 4, 6), None)
    assert second[:5] == ("b", "a.jpg", "left cat", Box(1, 2, 4, 6), (40, 30))


def test_names_of_cut_outs_name_the_photo(file):
    (found,) = read_expressions(file(record(pred_boxes_img_id=CUT_OUTS)))
    assert found.image == "COCO_train2014_000000266240.jpg"


def test_what_is_said_of_two_boxes_of_an_image_is_not_unique(file):
    rows = [
        record(image="a.jpg"),
        record("Left cat", image="a.jpg", gt_box=[5, 5, 5, 5]),
        record("grey cat", image="a.jpg"),
        record(image="b.jpg"),
        record(),
    ]
    found = read_expressions(file(*rows))
    assert [one.unique for one in found] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("more", "boxes"),
    [
        ({"pred_boxes": [[1, 2, 3, 4], [5, 6, 7, 8]]}, [Box(1, 2, 4, 6), Box(5, 6, 12, 14)]),
        ({"pred_box": [1, 2, 3, 4]}, [Box(1, 2, 4, 6)]),
        ({"pred_boxes": []}, []),
        ({"pred_box": None}, []),
        ({"pred_boxes": [[1, 2, 3], [1, 2, 0, 4], ["1", 2, 3, 4], [True, 2, 3, 4]]}, []),
        ({"pred_boxes": [[1, 2, float("inf"), 4], [float("nan"), 2, 3, 4], [10**400] * 4]}, []),
        ({"pred_boxes": "none"}, []),
    ],
)
def test_predicted_boxes_come_back_and_what_is_no_box_is_left_out(file, more, boxes):
    given_ = read_predictions(file(record(**more)))
    assert recorded_boxes(given_.texts["0"]) == boxes


def test_answers_may_be_called_as_elsewhere(file):
    assert read_predictions(file({"question_id": 7, "answer": "there"})).texts == {"7": "there"}


def test_a_text_stays_a_text(file):
    texts = ["It is at [1, 2, 3, 4].", '{"pred_boxes": ' + "[" * 100_000, '{"pred_boxes": x']
    given_ = read_predictions(file(*({"id": n, "text": text} for n, text in enumerate(texts))))
    assert list(given_.texts.values()) == texts
    assert [recorded_boxes(text) for text in texts] == [None] * 3


@given(st.text())
def test_no_text_is_an_error(text):
    assert recorded_boxes(text) is None or text.startswith("{")


@pytest.mark.parametrize(
    "broken",
    [7, {}, {"sent": "cat"}, {"sent": 7, "gt_box": [1, 2, 3, 4]}, record(gt_box=[1, 2, 0, 4])],
)
def test_a_record_that_is_no_expression_is_named(file, broken):
    with pytest.raises(DataError, match="no referring expression: it needs sent") as error:
        read_expressions(file(record(), broken))
    assert error.value.where.endswith("record 2")


def test_an_empty_file_and_a_record_without_an_answer_are_errors(file):
    with pytest.raises(DataError, match="there is no referring expression"):
        read_expressions(file())
    with pytest.raises(DataError, match="holds no answer"):
        read_predictions(file(record()))
