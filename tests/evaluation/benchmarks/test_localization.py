from dataclasses import replace

import pytest

from locvlm.evaluation.benchmarks.localization import Localization
from locvlm.types import Box, Instance, Sample
from tests.evaluation.conftest import CAT, DOG, answered, counts, read, values

PART = Localization(["Where is {category} in terms of {repr}?"])
DOG_BOX, CAT_BOX = "It is located at [10, 10, 30, 30] bbox.", "[70, 70, 90, 90]"


def score(sample, texts):
    questions = PART.questions([sample])
    return PART.score(answered(questions, lambda question: texts[question.key]), read)


@pytest.fixture
def keys(sample):
    return [question.key for question in PART.questions([sample])]


def test_asks_for_each_object_by_each_of_its_names(sample, keys):
    assert keys == [
        "localization/photo/category/0",
        "localization/photo/description/0",
        "localization/photo/category/1",
    ]
    texts = [question.messages[-1].parts for question in PART.questions([sample])]
    assert texts[1] == ("Where is black dog in terms of (x1,y1,x2,y2) bbox?",)


def test_exact_boxes_are_found(sample, keys):
    found = values(score(sample, dict(zip(keys, [DOG_BOX, DOG_BOX, CAT_BOX], strict=True))))
    assert found == {
        "localization.category.acc_at_0_5": 1,
        "localization.category.mean_iou": 1,
        "localization.category.hit_any": 1,
        "localization.category.refused": 0,
        "localization.category.parse_failures": 0,
        "localization.description.acc_at_0_5": 1,
        "localization.description.mean_iou": 1,
        "localization.description.hit_any": 1,
        "localization.description.refused": 0,
        "localization.description.parse_failures": 0,
    }


def test_the_box_of_another_object_hits_any_but_not_the_named_one(sample, keys):
    found = score(sample, dict.fromkeys(keys, CAT_BOX))
    assert values(found)["localization.category.acc_at_0_5"] == 0.5
    assert values(found)["localization.category.hit_any"] == 1
    assert [item.outcome for item in found.items] == ["other object", "other object", "found"]


def test_only_the_first_box_counts(sample, keys):
    found = score(sample, dict.fromkeys(keys, f"{CAT_BOX} or {DOG_BOX}"))
    assert [item.score for item in found.items] == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "outcome", "refused", "failures"),
    [
        ("There is no such object in the image.", "refused", 1, 0),
        ("somewhere", "no readable box", 0, 1),
        ("[10, 10, 30]", "no readable box", 0, 1),
        ("[20, 20]", "no readable box", 0, 1),
        ("[30, 30, 10, 10]", "no readable box", 0, 1),
        ("", "no readable box", 0, 1),
    ],
)
def test_an_answer_without_a_box_is_a_refusal_or_a_parse_failure(
    sample, keys, text, outcome, refused, failures
):
    found = score(sample, dict.fromkeys(keys, text))
    assert {item.outcome for item in found.items} == {outcome}
    assert values(found)["localization.category.acc_at_0_5"] == 0
    assert values(found)["localization.category.refused"] == refused
    assert values(found)["localization.category.parse_failures"] == failures


def test_a_half_right_box_has_its_overlap(sample, keys):
    found = score(sample, dict.fromkeys(keys, "[10, 10, 30, 20]"))
    assert [item.score for item in found.items] == pytest.approx([0.5, 0.5, 0])
    assert values(found)["localization.category.mean_iou"] == pytest.approx(0.25)
    assert values(found)["localization.category.acc_at_0_5"] == 0.5
    [histogram] = found.histograms
    assert (histogram.counts[0], histogram.counts[10], sum(histogram.counts)) == (1, 2, 3)


def test_every_item_says_what_to_draw(sample, keys):
    first = score(sample, dict.fromkeys(keys, CAT_BOX)).items[0]
    assert [(mark.role, mark.location) for mark in first.marks] == [
        ("true", DOG.box),
        ("predicted", CAT.box),
    ]
    assert first.wanted == "dog at (10, 10, 30, 30)"


def test_objects_that_share_their_category_or_stand_for_a_crowd_are_not_asked_for(sample):
    crowded = replace(
        sample,
        instances=(DOG, replace(DOG, box=Box(0, 0, 5, 5)), replace(CAT, crowd=True)),
    )
    assert PART.questions([crowded]) == []


def test_an_image_counts_once_in_the_interval(sample):
    questions = PART.questions([sample])
    [metric, *_] = PART.score(answered(questions, lambda _: CAT_BOX), read).metrics
    # One image only: resampling it always gives the same.
    assert (metric.estimate.low, metric.estimate.high, metric.estimate.n) == (0.5, 0.5, 2)


def test_without_questions_there_are_no_metrics():
    assert PART.questions([Sample("empty", "by hand")]) == []
    assert PART.score([], read).metrics == []


def test_a_data_set_without_descriptions_has_no_row_for_them(sample):
    plain = replace(sample, instances=(Instance("dog", DOG.box, description="dog"), CAT))
    questions = PART.questions([plain])
    assert counts(PART.score(answered(questions, lambda _: DOG_BOX), read)) == {
        f"localization.category.{name}": 2
        for name in ("acc_at_0_5", "mean_iou", "hit_any", "refused", "parse_failures")
    }
