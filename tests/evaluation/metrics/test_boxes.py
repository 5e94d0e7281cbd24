import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.metrics.boxes import accuracy_at, best_iou, iou, iou_matrix, paired_iou
from locvlm.types import Box

BOX = st.tuples(*[st.floats(-100, 100)] * 4)


def corners(xywh):
    x, y, width, height = xywh
    return (x, y, x + width, y + height)


def test_a_box_shifted_by_half_overlaps_by_a_third():
    assert iou([[0, 0, 2, 1]], [[1, 0, 3, 1]]) == pytest.approx(1 / 3)


def test_agrees_with_pycocotools_on_real_proposals(real_data):
    expected = json.loads((real_data / "expected" / "expected.json").read_text())["refcoco_boxes"]
    file = real_data / "refcoco" / "testA_refcoco_unc_dets_2images.json"
    records = json.loads(file.read_text())
    best = []
    for record, row in zip(records, expected["rows"], strict=True):
        found = iou_matrix(
            [corners(box) for box in record["pred_boxes"]], [corners(record["gt_box"])]
        )
        assert found[:, 0] == pytest.approx(row["iou"], abs=1e-9)
        best.append(found.max())
    assert accuracy_at(best).value == expected["acc_at_0.5_best_proposal"]
    assert np.mean(best) == pytest.approx(expected["mean_iou_best_proposal"])


@given(BOX, BOX)
def test_overlap_is_symmetric_and_between_0_and_1(a, b):
    forth, back = iou([a], [b])[0], iou([b], [a])[0]
    assert forth == back
    assert 0 <= forth <= 1


@given(st.lists(BOX, min_size=1, max_size=5), st.lists(BOX, min_size=1, max_size=5))
def test_the_matrix_holds_each_pair(first, second):
    matrix = iou_matrix(first, second)
    assert matrix.shape == (len(first), len(second))
    assert matrix[-1, 0] == iou([first[-1]], [second[0]])[0]


@pytest.mark.parametrize("bad", [(5, 5, 5, 9), (9, 0, 1, 4), (0, 0, 0, 0)])
def test_a_box_without_area_overlaps_nothing(bad):
    assert iou([bad], [bad]) == 0
    assert iou([bad], [(0, 0, 10, 10)]) == 0


def test_no_box_counts_as_no_overlap():
    true = [Box(0, 0, 1, 1), Box(0, 0, 2, 2)]
    assert paired_iou([None, Box(0, 0, 2, 2)], true).tolist() == [0, 1]
    assert paired_iou([], []).tolist() == []


def test_best_iou_finds_the_object_that_fits():
    others = [Box(0, 0, 1, 1), Box(5, 5, 7, 7)]
    assert best_iou(Box(5, 5, 7, 7), others) == 1
    assert best_iou(None, others) == best_iou(others[0], []) == 0


def test_accuracy_counts_the_threshold_itself():
    assert accuracy_at([0.5, 0.49, 1], 0.5).value == pytest.approx(2 / 3)


def test_refuses_lists_that_do_not_match():
    with pytest.raises(ValueError, match="1 boxes against 2"):
        iou([[0, 0, 1, 1]], [[0, 0, 1, 1]] * 2)
    with pytest.raises(ValueError, match="0 predictions for 1"):
        paired_iou([], [Box(0, 0, 1, 1)])


def test_a_million_pairs_are_no_loop_in_python():
    boxes = np.random.default_rng(0).random((2, 1_000_000, 4))
    few = 1_000
    one_by_one = seconds(lambda: [iou(boxes[0, n], boxes[1, n]) for n in range(few)])
    at_once = seconds(lambda: iou(boxes[0], boxes[1]))
    assert at_once / boxes.shape[1] < one_by_one / few / 10


def seconds(call):
    start = time.process_time()
    call()
    return time.process_time() - start
