from dataclasses import replace
from math import isnan

import pytest

from locvlm.evaluation.benchmarks.sides import CONTEXTS, Sides
from locvlm.predictors.ask import Answer
from locvlm.spatial import SideWording
from locvlm.types import Box, Instance, Sample
from tests.evaluation.conftest import counts, read, values

WORDING = SideWording(
    image={"horizontal": ["Side of {category}?"], "vertical": ["Half of {category}?"]},
    object={"horizontal": ["{other}: {category}?"], "vertical": ["{other}, {category}?"]},
)
PART = Sides({"trained": WORDING, "held_out": WORDING})


@pytest.fixture
def scene(sample):
    bird = Instance("bird", Box(80, 5, 90, 15))
    return replace(sample, instances=(*sample.instances, bird), absent=())


def score(sample, free=lambda q: q.meta["side"], closed=lambda q: q.meta["side"]):
    answers = []
    for question in PART.questions([sample]):
        said = (closed if question.candidates else free)(question)
        answers.append(Answer(question, f"{said}." if question.candidates else said))
    return PART.score(answers, read)


def test_every_question_is_asked_freely_and_with_both_candidates(scene):
    questions = PART.questions([scene])
    free = [question for question in questions if not question.candidates]
    closed = [question for question in questions if question.candidates]
    assert [question.messages for question in free] == [question.messages for question in closed]
    assert {question.candidates for question in closed} == {
        ("left.", "right."),
        ("above.", "below."),
    }
    assert len({question.key for question in questions}) == len(questions)


def test_in_context_questions_come_after_two_worked_ones_of_either_side(scene):
    in_context = [q for q in PART.questions([scene]) if q.meta["context"] == "in_context"]
    assert in_context
    for question in in_context:
        roles = [message.role for message in question.messages]
        assert roles == ["user", "assistant", "user", "assistant", "user"]
        replies = {question.messages[1].parts[0], question.messages[3].parts[0]}
        assert len(replies) == 2


def test_true_answers_are_right_in_every_row(scene):
    found = values(score(scene))
    failures = {key for key in found if key.endswith("parse_failures")}
    # A side that no question has for an answer counts nothing: NaN.
    right = {found[key] for key in found.keys() - failures if not isnan(found[key])}
    assert (right, {found[key] for key in failures}) == ({1}, {0})


def test_a_constant_answer_is_right_on_one_side_only(scene):
    left = Sample("left", "by hand", image=scene.image, size=(100, 100), instances=())
    at = {"left": Box(0, 40, 10, 60), "right": Box(90, 40, 100, 60)}
    samples = [
        replace(left, key=side, instances=(Instance("dog", box),)) for side, box in at.items()
    ]
    questions = PART.questions(samples)
    answers = [Answer(q, "left." if q.candidates else "It is left") for q in questions]
    found = values(PART.score(answers, read))
    for judge in ("strict", "likelihood"):
        prefix = f"sides.image.horizontal.trained.direct.{judge}"
        assert [found[f"{prefix}.{side}"] for side in ("all", "left", "right")] == [0.5, 1, 0]


def test_the_strict_judge_refuses_what_the_papers_judge_accepts(scene):
    found = values(score(scene, free=lambda q: "left or right, above or below"))
    assert found["sides.image.horizontal.trained.direct.strict.all"] == 0
    assert found["sides.image.horizontal.trained.direct.strict.paper"] == 1
    assert found["sides.image.horizontal.trained.direct.strict.parse_failures"] == 1
    assert found["sides.image.horizontal.trained.direct.likelihood.all"] == 1


def test_rows_keep_their_own_counts(scene):
    found = counts(score(scene))
    assert found["sides.image.vertical.trained.direct.strict.all"] == 1
    gold = [found[f"sides.image.vertical.trained.direct.strict.{s}"] for s in ("above", "below")]
    assert sorted(gold) == [0, 1]


def test_only_free_answers_have_pictures(scene):
    items = score(scene).items
    assert {bool(item.group) for item in items if item.key.endswith("/free")} == {True}
    assert {item.group for item in items if item.key.endswith("/likelihood")} == {""}
    about_pairs = [item for item in items if "/object/" in item.key]
    assert {mark.role for item in about_pairs for mark in item.marks} == {"true", "asked"}


def test_the_protocol_names_every_wording_and_context():
    assert set(PART.protocol["wordings"]) == {"trained", "held_out"}
    assert PART.protocol["wordings"]["trained"]["answer"] == "{side}."
    assert CONTEXTS == ("direct", "in_context")


def test_images_without_objects_on_a_side_are_not_asked_about(sample):
    centre = Instance("dog", Box(45, 45, 55, 55))
    assert PART.questions([replace(sample, instances=(centre,))]) == []
    assert PART.questions([Sample("text", "by hand")]) == []
