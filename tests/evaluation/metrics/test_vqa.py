import json
from collections import defaultdict
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.metrics.vqa import _COMPLETED, normalized, vqa_accuracy


def people(*answers):
    """Ten answers; the last one stands for all that are not given."""
    return [*answers, *[answers[-1]] * (10 - len(answers))]


@pytest.mark.parametrize("n", range(11))
def test_three_others_make_an_answer_right(n):
    official = [0, 0.3, 0.6, 0.9, *[1] * 7]
    assert vqa_accuracy("cat", ["cat"] * n + ["dog"] * (10 - n)) == pytest.approx(official[n])


def test_equals_the_official_program_on_real_answers(real_data):
    file = real_data / "vqa_v2" / "annotations_180.json"
    scores = defaultdict(list)
    for record in json.loads(file.read_text())["annotations"]:
        humans = [answer["answer"] for answer in record["answers"]]
        for kind in ("overall", record["question_type"], record["answer_type"]):
            scores[kind].append(vqa_accuracy(humans[0], humans))
    found = {kind: round(100 * mean(values), 2) for kind, values in scores.items()}
    expected = json.loads((real_data / "expected" / "expected.json").read_text())
    official = expected["vqa_v2"]["first_human_answer_as_prediction"]
    types = official["perQuestionType"] | official["perAnswerType"]
    assert found == {"overall": official["overall"], **types}


def test_where_people_agree_an_answer_must_be_theirs_to_the_letter():
    assert vqa_accuracy("yes", people("yes")) == 1
    assert vqa_accuracy(" yes\n", people("yes")) == 1
    assert vqa_accuracy("Yes", people("yes")) == 0
    assert vqa_accuracy("Yes", people("no", "yes")) == 1


def test_people_who_differ_in_spaces_alone_agree():
    assert vqa_accuracy("Yes", people("yes ", "yes\t", "\nyes", "yes")) == 0


def test_other_numbers_of_people_are_averaged_alike():
    assert vqa_accuracy("cat", ["cat"]) == 0
    assert vqa_accuracy("cat", ["cat"] * 4) == 1
    assert vqa_accuracy("cat", ["cat", "cat", "dog"]) == pytest.approx((1 + 1 + 2) / 9)
    with pytest.raises(ValueError, match="no human answers"):
        vqa_accuracy("cat", [])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Cat", "cat"),
        ("a", ""),
        ("none", "0"),
        ("ten men", "10 men"),
        ("eleven", "eleven"),
        ("dont", "don't"),
        ("lets", "lets"),  # official: not in its table
        ("somebody'd", "somebodyd"),  # official: the wrong way round
        ("im", "im"),  # official: its key has a capital, words are in lower case by then
        ("couldntve", "couldntve"),  # two apostrophes are missing
        ("yes/no", "yes no"),
        ("yes/ no", "yes no"),
        ("yes-no", "yes no"),
        ("t-shirt - red", "tshirt red"),  # beside a space once, gone everywhere
        ("1,000", "1000"),
        ("1,000/day", "1000day"),  # a comma between digits joins everything
        ("red,blue", "red blue"),
        ("3.5", "3.5"),
        (".5", ".5"),
        ("5.", "5"),
        ("u.s.a.", "usa"),
        ("<=3.x", "3x"),
        ("12:30", "12:30"),  # no colon in the list
        ("dog's", "dog's"),
        ("one-two", "1 2"),
        ("the-end", "end"),
        ("." * 33 + "x", ".x"),  # 32 stops go
        ("What?!", "what"),
    ],
)
def test_the_official_normalization(text, wanted):
    assert normalized(text) == wanted


def test_every_contraction_of_the_official_table_is_there():
    assert len(_COMPLETED) == 118  # official: 120, of which two complete nothing
    assert _COMPLETED["wouldnt've"] == _COMPLETED["wouldn'tve"] == "wouldn't've"
    assert _COMPLETED["y'all'dve"] == "y'all'd've"
    assert _COMPLETED["twas"] == "'twas"


@given(st.text(), st.lists(st.text(), min_size=1, max_size=10))
def test_any_text_passes(answer, humans):
    assert 0 <= vqa_accuracy(answer, humans) <= 1
