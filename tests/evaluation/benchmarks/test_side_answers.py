import pytest

from locvlm.evaluation.benchmarks.side_answers import fact_meta, named_side, side_item, worked
from locvlm.predictors.ask import Answer
from locvlm.spatial import SideFact
from locvlm.types import Box, Instance, Message, Question, Sample

DOG = Instance("dog", Box(0, 0, 10, 10))
CAT = Instance("cat", Box(20, 0, 30, 10))
FACT = SideFact(DOG, "horizontal", "left", CAT)
CANDIDATES = ("It lies to the left.", "It lies to the right.")


def answer(text, candidates=(), fact=FACT):
    messages = (Message("user", ("Which side?",)),)
    return Answer(Question("q", Sample("a", "b"), messages, candidates, fact_meta(fact)), text)


@pytest.mark.parametrize(
    ("text", "side"),
    [("Left.", "left"), ("on the right side", "right"), ("left or right", None), ("above", None)],
)
def test_a_free_answer_names_one_side_of_the_axis_or_none(text, side):
    assert named_side(answer(text)) == side


@pytest.mark.parametrize("text", [*CANDIDATES, "to the right"])
def test_a_closed_answer_stands_for_its_candidate_or_is_read_as_a_free_one(text):
    assert named_side(answer(text, CANDIDATES)) == ("left" if "left" in text else "right")


def test_an_item_says_what_came_of_an_answer():
    right, wrong, unnamed = (
        side_item(answer(text), "gallery") for text in ("left", "right", "both <b>")
    )
    assert [item.outcome for item in (right, wrong, unnamed)] == ["right", "wrong", "no side named"]
    assert [item.said for item in (right, wrong, unnamed)] == ["left", "right", "no side"]
    assert [(mark.role, mark.label) for mark in right.marks] == [("true", "dog"), ("asked", "cat")]


def test_a_side_of_the_image_has_no_other_object():
    fact = SideFact(DOG, "horizontal", "left")
    assert [mark.role for mark in side_item(answer("left", fact=fact), "").marks] == ["true"]


def test_worked_questions_are_turns():
    assert worked([("A?", "a."), ("B?", "b.")]) == (
        Message("user", ("A?",)),
        Message("assistant", ("a.",)),
        Message("user", ("B?",)),
        Message("assistant", ("b.",)),
    )
