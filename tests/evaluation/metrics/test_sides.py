import pytest

from locvlm.evaluation.metrics.sides import by_side, kept, turned


def test_accuracy_is_split_by_the_right_side():
    found = by_side([1, 1, 0, 1], ["left", "left", "right", "right"], ("left", "right"))
    assert {side: metric.value for side, metric in found.items()} == {
        "all": 0.75,
        "left": 1.0,
        "right": 0.5,
    }
    assert [metric.n for metric in found.values()] == [4, 2, 2]


def test_a_side_that_no_question_has_counts_nothing():
    assert by_side([1], ["left"], ("left", "right"))["right"].n == 0


def test_refuses_judgements_that_do_not_match():
    with pytest.raises(ValueError, match="1 judgements for 2 questions"):
        by_side([1], ["left", "right"], ("left", "right"))


def test_an_answer_turns_where_both_name_a_side_and_not_the_same():
    first = ["left", "left", None, "right", None]
    second = ["right", "left", "left", None, None]
    assert turned(first, second).numerators.tolist() == [1, 0, 0, 0, 0]
    assert kept(first, second).numerators.tolist() == [0, 1, 0, 0, 0]
    assert turned(first, second).n == kept(first, second).n == 5


def test_answers_that_belong_to_no_other_are_refused():
    for measure in (turned, kept):
        with pytest.raises(ValueError, match="shorter"):
            measure(["left"], [])
