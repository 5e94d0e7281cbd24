import pytest

from locvlm.evaluation.benchmarks.coco_spatial_rows import (
    accuracy_rows,
    baseline_rows,
    consistency_rows,
)
from locvlm.evaluation.bootstrap import estimate, ratio
from locvlm.predictors.ask import Answer
from locvlm.types import Message, Question, Sample

CANDIDATES = ("on the left", "on the right")


def answer(text, pair=0, *, image="a.jpg", closed=False, **meta):
    known = {
        **{"axis": "horizontal", "side": "left", "pair": str(pair), "image": image},
        **{"context": "direct", "change": "", "part": "benchmark", "grey": False},
    }
    asked = (Message("user", ("Which side?",)),)
    candidates = CANDIDATES if closed else ()
    return Answer(Question(str(pair), Sample(image, ""), asked, candidates, known | meta), text)


def found(rows, answers):
    metrics = list(rows(answers, "horizontal", 0))
    return {metric.key.removeprefix("coco_spatial.horizontal."): metric for metric in metrics}


def test_each_context_and_judge_has_its_row():
    answers = [answer("left"), answer("on the right", closed=True)]
    answers += [answer("left or right", context="in_context"), answer("left", part="diagnostics")]
    rows = found(accuracy_rows, answers)
    shares = {key: metric.estimate.value for key, metric in rows.items() if key.endswith(".all")}
    assert shares == {
        "direct.paper.all": 1,
        "direct.strict.all": 1,
        "direct.likelihood.all": 0,
        "in_context.paper.all": 1,
        "in_context.strict.all": 0,
    }
    assert {metric.estimate.n for metric in rows.values()} == {1, 0}


def test_the_papers_judge_sums_up_a_run():
    rows = found(accuracy_rows, [answer("left"), answer("left", context="in_context")])
    assert {key: metric.headline for key, metric in rows.items() if metric.headline} == {
        "direct.paper.all": "COCO-Spatial, left or right, direct",
        "in_context.paper.all": "COCO-Spatial, left or right, in context",
    }


@pytest.mark.parametrize("rows", [accuracy_rows, consistency_rows])
def test_pairs_of_one_image_are_resampled_together(rows):
    right = [1, 1, 1, 0, 0, 0, 1, 0]
    images = ["a", "a", "a", "b", "b", "b", "c", "c"]
    answers = []
    for pair, (text, image) in enumerate(zip(right, images, strict=True)):
        answers.append(answer("left" if text else "right", pair, image=image))
        diagnostics = {"change": "swapped", "part": "diagnostics", "side": "right"}
        answers.append(answer("right", pair, image=image, **diagnostics))
    key = "direct.strict.all" if rows is accuracy_rows else "consistency.strict.swapped"
    assert found(rows, answers)[key].estimate == estimate(ratio(right), images)


def test_consistency_is_about_what_was_seen_and_asked_directly():
    swapped = {"change": "swapped", "part": "diagnostics", "side": "right"}
    answers = [answer("left"), answer("right", **swapped)]
    answers += [
        answer("right", grey=True, part="diagnostics"),
        answer("right", context="in_context"),
    ]
    answers += [answer("left", **swapped, grey=True)]
    rows = found(consistency_rows, answers)
    assert rows["consistency.strict.swapped"].estimate.value == 1
    assert set(rows) == {"consistency.strict.swapped"}


def test_baselines_are_about_grey_images_and_constant_answers():
    answers = [answer("left", 0), answer("left", 1, side="right"), answer("left", 2)]
    answers += [
        answer("right", 0, grey=True, part="diagnostics"),
        answer("left", 0, context="in_context"),
    ]
    rows = found(baseline_rows, answers)
    assert rows["grey.strict.all"].estimate.value == 0
    assert rows["always_left.all"].estimate.value == pytest.approx(2 / 3)
    assert rows["always_right.all"].estimate.n == 3


def test_constant_answers_need_no_free_ones():
    rows = found(baseline_rows, [answer("on the left", closed=True)])
    assert rows["always_left.all"].estimate.value == 1


@pytest.mark.parametrize("rows", [accuracy_rows, baseline_rows, consistency_rows])
def test_there_are_no_rows_without_answers(rows):
    assert found(rows, []) == {}
