import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.report.closed import LIKELIHOOD, Bin, confusions, reliability
from tests.report.conftest import item


def sure(confidence, score):
    return item(0, "", score, confidence=confidence)


def said(wanted, word, group="Is it there?"):
    return item(0, "", float(wanted == word), wanted=wanted, said=word, group=group)


def test_the_calibration_error_is_the_gap_of_each_bin_weighed_by_its_answers():
    found = reliability([sure(0.95, 1), sure(0.95, 0), sure(0.6, 1), sure(0.6, 1)])
    assert found.bins[9] == Bin(2, 0.95, 0.5)
    assert found.bins[6] == Bin(2, 0.6, 1.0)
    assert [n for n, one in enumerate(found.bins) if one] == [6, 9]
    assert found.error == pytest.approx((2 * 0.45 + 2 * 0.4) / 4)
    assert found.n == 4


def test_a_sure_and_right_model_has_no_error_and_certainty_is_in_the_last_bin():
    found = reliability([sure(1.0, 1)] * 3)
    assert (found.error, found.bins[9]) == (0, Bin(3, 1.0, 1.0))


def test_items_without_confidence_count_nothing():
    assert reliability([item(0, "", 1), sure(None, 1)]) is None
    assert reliability([item(0, "", 1), sure(0.5, 1)]).n == 1


def test_what_was_said_is_counted_for_what_was_wanted():
    [found] = confusions([said("yes", "yes")] * 3 + [said("yes", "no"), said("no", "neither")])
    assert (found.wanted, found.said) == (["no", "yes"], ["no", "yes", "neither"])
    assert found.counts[("yes", "yes")] == 3
    assert found.share("yes", "no") == 0.25
    assert found.share("no", "no") == 0


def test_galleries_stand_apart_and_answers_by_likelihood_have_their_own():
    items = [
        said("yes", "yes"),
        said("no", "no"),
        said("left", "right", ""),
        said("right", "left", ""),
    ]
    assert [one.title for one in confusions(items)] == ["Is it there?", LIKELIHOOD]


def test_free_answers_and_sets_that_are_not_small_have_no_table():
    assert confusions([item(0, "", 1), item(1, "", 0)]) == []
    assert confusions([said("yes", "yes")] * 5) == []
    assert confusions([said(str(n), "a") for n in range(13)]) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_every_answer_is_in_one_bin_and_the_error_is_a_share(answers):
    found = reliability([sure(confidence, float(right)) for confidence, right in answers])
    assert found.n == len(answers)
    assert 0 <= found.error <= 1
