from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.evaluation.benchmarks.asking import first_box, half_present, seeded, spoken, where_is
from locvlm.predictors.ask import Answer
from locvlm.types import Box, Point, Question, Sample
from tests.evaluation.conftest import read

PROMPTS = [f"{n}: where is the {{category}}, as {{repr}}?" for n in range(20)]


@pytest.fixture
def said(sample):
    return lambda text: Answer(Question("q", sample, ()), text)


def test_asks_for_a_box_of_the_name_in_the_words_of_a_prompt(sample):
    message = where_is(["Where is the {category}, as {repr}?"], sample, "cat {1}", 0)
    assert message.role == "user"
    assert spoken(message.parts) == "Where is the cat {1}, as (x1,y1,x2,y2) bbox?"


def test_the_same_image_name_and_seed_get_the_same_words(sample):
    assert where_is(PROMPTS, sample, "cat", 0) == where_is(PROMPTS, sample, "cat", 0)


def test_other_images_names_and_seeds_get_words_of_their_own(sample):
    def number(message):
        return spoken(message.parts).partition(":")[0]

    samples = [Sample(f"photo {n}", "by hand") for n in range(30)]
    assert len({number(where_is(PROMPTS, one, "cat", 0)) for one in samples}) > 5
    assert len({number(where_is(PROMPTS, sample, f"cat {n}", 0)) for n in range(30)}) > 5
    assert len({number(where_is(PROMPTS, sample, "cat", seed)) for seed in range(30)}) > 5


def test_randomness_is_the_same_in_every_release():
    # Other numbers would ask other questions: versions of benchmarks would have to change.
    assert [seeded(0, "photo", "cat").randrange(1000) for _ in range(2)] == [442, 442]
    assert seeded(3).randrange(1000) == 888


def test_names_may_hold_any_character():
    assert seeded(0, "\ud800").random() != seeded(0, "\ud801").random()


def test_the_first_box_counts_whatever_else_is_said(said):
    text = "[50, 60] or [10, 20, 30, 40], [1, 2, 3, 4] or [5, 6, 7, 8, 9]"
    assert first_box(said(text), read) == Box(10, 20, 30, 40)


@pytest.mark.parametrize("text", ["", "nowhere", "[50, 60]", "[30, 20, 10, 40]"])
def test_an_answer_without_a_readable_box_has_none(said, text):
    assert first_box(said(text), read) is None


def test_locations_are_spoken_as_rounded_pixels():
    parts = ("At ", Box(0.4, 9.6, 20, 30), " or ", Point(-0.6, 99.51), ".")
    assert spoken(parts) == "At (0, 10, 20, 30) or (-1, 100)."


@given(st.text())
def test_words_are_spoken_as_they_are(text):
    assert spoken((text,)) == text


def test_as_many_absent_names_as_present_ones():
    assert half_present(["a"], ["x", "y"], 2, Random(0)) in (
        [("a", True), ("x", False)],
        [("a", True), ("y", False)],
    )
    assert half_present([], ["x"], 2, Random(0)) == []
