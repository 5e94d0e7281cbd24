import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.judges import (
    is_refusal,
    mme_says_yes,
    paper_side,
    pope_says_yes,
    says_yes,
    strict_side,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes, there is.", True),
        ("No, there is no dog.", False),
        ("There is not a dog", False),
        ("There is a dog. No cat, though.", True),
        ("NO", True),
        ("", True),
        ("A dog", True),
    ],
)
def test_pope_reads_the_first_sentence_as_its_official_program_does(text, expected):
    assert pope_says_yes(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NO way", False),
        ("oh yes", True),
        ("nothing known", None),
        ("", None),
        ("it is not", False),
    ],
)
def test_a_strict_yes_or_no_is_a_word_of_the_answer(text, expected):
    assert says_yes(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes", True),
        ("No.", False),
        (" yes", True),
        ("NO, yes", False),
        ("Nothing", False),
        ("Eyes", True),
        ("  Yes", None),  # only four letters are read
        ("The answer is yes", None),
        ("n", None),
        ("", None),
    ],
)
def test_mme_reads_four_letters_as_its_official_program_does(text, expected):
    assert mme_says_yes(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "There is no such object in the image.",
        "No.",
        "there isn't one",
        "The dog is not present.",
        "I cannot find it",
    ],
)
def test_refusals_are_recognised(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text", ["It is located at [1, 2, 3, 4] bbox.", "", "a snow-white notebook"]
)
def test_other_answers_are_no_refusals(text):
    assert not is_refusal(text)


def test_the_papers_judge_accepts_the_word_anywhere():
    assert paper_side("Left or right? I am right.", "left")
    assert not paper_side("above", "left")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is on the LEFT side.", "left"),
        ("left, left", "left"),
        ("left or right", None),
        ("leftover", None),
        ("", None),
    ],
)
def test_the_strict_judge_wants_one_side_as_a_whole_word(text, expected):
    assert strict_side(text, ("left", "right")) == expected


def test_reads_real_answers_as_popes_program_does(real_data):
    pope = real_data / "pope"
    answers = [
        json.loads(line)["text"]
        for line in (pope / "answers_llava-v1.5-7b_random_40images.jsonl").read_text().splitlines()
    ]
    gold = [
        json.loads(line)["label"] == "yes"
        for line in (pope / "coco_pope_random_40images.json").read_text().splitlines()
    ]
    says = [pope_says_yes(answer) for answer in answers]
    pairs = Counter(zip(says, gold, strict=True))
    assert pairs == {(True, True): 85, (True, False): 9, (False, False): 111, (False, True): 35}


@given(st.text())
def test_no_answer_breaks_a_judge(text):
    pope_says_yes(text)
    mme_says_yes(text)
    says_yes(text)
    is_refusal(text)
    paper_side(text, "left")
    strict_side(text, ("above", "below"))
