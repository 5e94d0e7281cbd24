from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.scenes.scene import Scene
from locvlm.scenes.topics import (
    Color,
    Compare,
    Count,
    Listing,
    Presence,
    Shape,
    TakenAway,
    count_of,
    listing_of,
)
from locvlm.scenes.world import SceneObject
from locvlm.types import Box

CIRCLE = SceneObject("circle", "red", Box(0, 0, 24, 24))
STAR = SceneObject("star", "orange", Box(40, 40, 55, 55))


@pytest.fixture
def scene(world):
    return Scene(world, "train-0", (CIRCLE, STAR), ("heart",), ("blue heart",), 0)


def test_presence_is_asked_as_often_for_absent_objects(scene):
    topic = Presence(["Is there {article} {category}?"])
    rng = Random(0)
    turns = [topic(scene, rng, 0.5) for _ in range(2000)]
    answers = dict(turns)
    assert answers == {
        "Is there a circle?": "Yes.",
        "Is there a red circle?": "Yes.",
        "Is there a star?": "Yes.",
        "Is there an orange star?": "Yes.",
        "Is there a heart?": "No.",
        "Is there a blue heart?": "No.",
    }
    counts = Counter(answer for _, answer in turns)
    assert 0.46 < counts["Yes."] / 2000 < 0.54


def test_presence_names_present_and_absent_objects_in_the_same_forms(scene):
    rng = Random(0)
    turns = [Presence(["{category}"])(scene, rng, 0.3) for _ in range(4000)]
    described = {
        answer: sum(" " in name for name, a in turns if a == answer)
        / sum(a == answer for _, a in turns)
        for answer in ("Yes.", "No.")
    }
    assert described["Yes."] == pytest.approx(0.3, abs=0.04)
    assert described["No."] == pytest.approx(0.3, abs=0.04)


def test_a_scene_that_shows_every_shape_has_nothing_absent_to_ask_for(scene):
    full = replace(scene, absent=(), absent_descriptions=())
    assert {Presence(["{category}?"])(full, Random(n), 0.5)[1] for n in range(20)} == {"Yes."}


@pytest.mark.parametrize(
    ("topic", "turn"),
    [
        (Color(["Color of {category}?"]), ("Color of star?", "The star is orange.")),
        (Shape(["What is {color}?"]), ("What is orange?", "It is a star.")),
        (Count(["How many?"]), ("How many?", "I see two objects.")),
        (
            TakenAway(["Without the {category}?"], "{left}, not {count}."),
            ("Without the star?", "one object, not two objects."),
        ),
        (
            Compare(["{category}, {other}?"], "The {category}, not the {other}."),
            ("star, circle?", "The circle, not the star."),
        ),
        (
            Compare(["{category}, {other}?"], "The {category}, not the {other}.", wanted="smaller"),
            ("star, circle?", "The star, not the circle."),
        ),
    ],
)  # fmt: skip
def test_topics_ask_and_answer(scene, topic, turn):
    assert turn in {topic(scene, Random(seed), 0.0) for seed in range(20)}


def test_objects_of_nearly_the_same_size_are_not_compared(scene):
    alike = replace(scene, objects=(CIRCLE, replace(STAR, box=Box(30, 30, 52, 52))))
    assert Compare(["{category}"], "{other}")(alike, Random(0), 0.5) is None


def test_lists_have_no_fixed_order(scene):
    answers = {
        Listing(["What?"], "{count}: {objects}.")(scene, Random(n), 0.5)[1] for n in range(20)
    }
    assert answers == {
        "two objects: a red circle and an orange star.",
        "two objects: an orange star and a red circle.",
    }


def test_numbers_and_lists_read_well():
    assert count_of([CIRCLE]) == "one object"
    assert count_of([]) == "no objects"
    assert count_of([CIRCLE] * 12) == "12 objects"
    assert listing_of([STAR], Random(0)) == "an orange star"
    assert listing_of([STAR, STAR, STAR], Random(0)) == (
        "an orange star, an orange star and an orange star"
    )


def test_refuses_to_compare_by_anything_but_size():
    with pytest.raises(ConfigError, match="'redder'"):
        Compare(["?"], "!", wanted="redder")
