from collections import Counter
from dataclasses import replace

import pytest

from locvlm.data import Shards
from locvlm.data.leaks import NO_DIGEST
from locvlm.data.survey import (
    EXAMPLES,
    doubles,
    location_problem,
    quantiles,
    readable_samples,
    sample_problems,
    survey,
)
from locvlm.errors import DataError
from locvlm.types import Box, Instance, Message, Point, Sample
from tests.data.conftest import annotated, picture, talked


def boxed(*boxes):
    """An image of 48 x 40 pixels with these boxes."""
    return replace(annotated(0), instances=tuple(Instance("circle", box) for box in boxes))


def said(*parts, role="assistant"):
    return replace(talked(0), messages=(Message("user", ("What?",)), Message(role, parts)))


def test_counts_samples_images_and_turns():
    found = survey([annotated(0), annotated(1), talked(2)])
    assert found.n_samples == 3
    assert found.kinds == {"annotated image": 2, "conversation": 1}
    assert found.widths == {48: 3}
    assert found.heights == {40: 3}
    assert found.counts["instances"] == found.counts["locations"] == 2
    assert found.counts["user turns"] == found.counts["assistant turns"] == 1
    assert not found.problems


def test_an_instance_counts_as_single_where_it_is_alone_of_its_category():
    circle, square = Instance("circle", Box(1, 1, 5, 5)), Instance("square", Box(1, 1, 5, 5))
    crowd = replace(square, crowd=True)
    pair = replace(annotated(0), instances=(circle, circle, square))
    alone = replace(annotated(1), instances=(circle, crowd))
    found = survey([pair, alone])
    assert found.categories == {"circle": 3, "square": 1}
    assert found.singles == {"square": 1, "circle": 1}
    assert found.counts["crowds"] == 1
    assert found.counts["annotated images"] == found.counts["images with a nameable instance"] == 2


def test_words_of_place_are_counted_where_they_stand():
    talk = replace(
        talked(0),
        messages=(
            Message("user", ("What is next to the cup, on the LEFT?",)),
            Message("assistant", ("A plate: left, left. Nothing leftover, nothing upright.",)),
        ),
        instances=(Instance("cup", Box(1, 1, 9, 9), description="cup in front of the plate"),),
    )
    assert survey([talk]).words == {
        ("next to", "user"): 1,
        ("left", "user"): 1,
        ("left", "assistant"): 2,
        ("in front of", "description"): 1,
    }


@pytest.mark.parametrize(
    ("location", "problem"),
    [
        (Box(0, 0, 48, 40), None),
        (Box(-0.9, 0, 48.9, 40), None),
        (Box(0, 0, 49.1, 40), "outside"),
        (Box(-1.1, 0, 40, 40), "outside"),
        (Box(20, 20, 20, 30), "no area"),
        (Box(20, 20, 30, 10), "no area"),
        (Point(48, 40), None),
        (Point(20, 42), "outside"),
    ],
)
def test_a_location_must_lie_in_its_image_and_have_an_area(location, problem):
    assert location_problem(location, (48, 40)) == problem


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        (boxed(Box(0, 0, 60, 20)), {"outside": "(0, 0, 60, 20) in 48 x 40 pixels"}),
        (said("At ", Point(50, 3)), {"outside": "(50, 3) in 48 x 40 pixels"}),
        (boxed(Box(9, 9, 5, 5)), {"no area": "(9, 9, 5, 5) in 48 x 40 pixels"}),
        (
            boxed(Box(0.1, 0.2, 0.5, 1.0), Box(0, 0, 1, 1)),
            {"unit square": "(0.1, 0.2, 0.5, 1) in 48 x 40 pixels"},
        ),
        (boxed(Box(0.1, 0.2, 0.5, 1.0), Box(0, 0, 30, 30)), {}),
        (
            replace(annotated(0), size=(96, 40)),
            {"other size": "the image is 48 x 40 pixels, its record says 96 x 40 pixels"},
        ),
        (said("It is at [0.12, 0.20, 0.45, 0.60]."), {"plain text": "'[0.12, 0.20, 0.45, 0.60]'"}),
        (said("It is at (4,52,13,63)."), {"plain text": "'(4,52,13,63)'"}),
        (said("<patch_index_0044><patch_index_0863>"), {"plain text": "'<patch_index_'"}),
        (said("In 1, 2, 3, 4 steps [1, 2, 3]."), {}),
    ],
)
def test_problems_are_named_with_their_numbers(sample, problem):
    assert sample_problems(sample) == problem


@pytest.mark.parametrize(
    "sample",
    [
        replace(annotated(0), image=b"no image"),
        Sample("text", "t.json", messages=(Message("user", ("At ", Box(1, 2, 3, 4))),)),
    ],
)
def test_what_cannot_be_encoded_is_bad_and_counts_for_nothing_else(sample):
    found = survey([sample])
    assert found.problems == {"bad": 1}
    assert not found.kinds
    assert found.keys[0] == found.digests[0] == NO_DIGEST


def test_damaged_samples_are_counted_in_their_place(shards):
    folder = shards([talked(n) for n in range(3)])
    file = folder / "000000.tar"
    data = bytearray(file.read_bytes())
    data[data.index(b"It is 1.")] ^= 255
    file.write_bytes(data)
    seen = []
    found = survey(readable_samples(Shards(folder), lambda: seen.append(1)))
    assert len(seen) == found.n_samples == 3
    [example] = found.examples["bad"]
    assert example.position == 1
    assert "checksum" in example.what
    assert "sample 000000-000001" in example.where


def test_only_the_first_samples_with_a_problem_are_named():
    found = survey(DataError(f"damaged {n}") for n in range(EXAMPLES + 5))
    assert found.problems == {"bad": EXAMPLES + 5}
    assert [str(one) for one in found.examples["bad"]] == [f"damaged {n}" for n in range(EXAMPLES)]


def test_doubles_are_found_by_key_and_by_the_bytes_of_the_image():
    same = replace(annotated(0), key="another key")
    found = survey([annotated(0), annotated(1), same, replace(annotated(3), key="image 1")])
    assert doubles(found.digests) == [[0, 2]]
    assert doubles(found.keys) == [[1, 3]]


def test_samples_without_an_image_are_no_doubles():
    texts = [Sample(str(n), "t.json", messages=talked(n).messages) for n in range(3)]
    assert doubles(survey(texts).digests) == []
    assert doubles(survey([]).keys) == []


def test_coco_images_are_known_by_their_file_name():
    named = replace(annotated(0), extra={"image": "COCO_train2014_000000458752.jpg"})
    keyed = replace(annotated(1), key="000000000009")
    assert survey([named, keyed, annotated(2)]).coco_ids.tolist() == [458752, 9, -1]


def test_quantiles_are_values_that_occur():
    assert quantiles(Counter(range(1, 101))) == (1, 50, 95, 100)
    assert quantiles(Counter([7])) == (7, 7, 7, 7)
    assert quantiles(Counter()) is None


def test_images_are_judged_by_their_headers_alone():
    cut = replace(annotated(0), image=picture()[:60])
    assert not survey([cut]).problems
