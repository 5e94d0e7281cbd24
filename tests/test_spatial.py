import json
from dataclasses import replace
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.spatial import (
    SideWording,
    clear_pairs,
    image_facts,
    mirrored,
    object_facts,
    opposite,
    side_of_image,
    side_of_object,
    side_questions,
    swapped,
)
from locvlm.types import Box, Instance

SIZE = (100, 50)
DOG = Instance("dog", Box(0, 0, 30, 10), "brown dog")
CAT = Instance("cat", Box(70, 5, 100, 15))
CUP = Instance("cup", Box(61, 40, 81, 50))
TREE = Instance("tree", Box(40, 20, 60, 30))
WORDING = SideWording(
    image={"horizontal": ["Which side is {category} on?"], "vertical": ["{category}: up?"]},
    object={
        "horizontal": ["Which side of {other} is {category}?"],
        "vertical": ["{other} {category}"],
    },
)


def ask(instances, axis="horizontal", kind="image", *, in_context=False, seed=0):
    asked = side_questions(instances, SIZE, WORDING, Random(seed), in_context=in_context)
    return [q for q in asked if (q.fact.kind, q.fact.axis) == (kind, axis)]


@pytest.mark.parametrize(
    ("x", "side"), [(39.9, "left"), (40, None), (50, None), (60, None), (60.1, "right")]
)
def test_the_middle_fifth_of_an_image_is_on_no_side(x, side):
    assert side_of_image(Box(x - 1, 0, x + 1, 2), SIZE, "horizontal") == side


def test_above_is_where_y_is_small():
    assert side_of_image(Box(0, 0, 2, 10), SIZE, "vertical") == "above"
    assert side_of_image(Box(0, 40, 2, 50), SIZE, "vertical") == "below"
    assert side_of_object(DOG.box, CUP.box, "vertical") == "above"


def test_boxes_that_touch_are_on_no_side_of_each_other():
    assert side_of_object(Box(0, 0, 10, 10), Box(10, 0, 20, 10), "horizontal") is None
    assert side_of_object(Box(0, 0, 9, 10), Box(10, 0, 20, 10), "horizontal") == "left"
    assert side_of_object(Box(11, 0, 19, 10), Box(0, 0, 10, 10), "horizontal") == "right"


@pytest.mark.parametrize(
    ("side", "other"),
    [("left", "right"), ("right", "left"), ("above", "below"), ("below", "above")],
)
def test_each_side_has_an_opposite(side, other):
    assert opposite(side) == other


def test_facts_leave_out_categories_seen_twice_and_crowds():
    twin = Instance("dog", Box(80, 0, 90, 10))
    crowd = Instance("cat", CAT.box, crowd=True)
    assert image_facts([DOG, twin, crowd, TREE], SIZE, "horizontal") == []


def test_pairs_lie_on_opposite_sides_and_are_seen_from_both():
    facts = object_facts([DOG, CAT, CUP, TREE], SIZE, "horizontal")
    found = {(f.instance.category, f.side, f.other.category) for f in facts}
    assert found == {
        ("dog", "left", "cat"),
        ("dog", "left", "cup"),
        ("cat", "right", "dog"),
        ("cup", "right", "dog"),
    }


def test_finds_the_pairs_of_the_released_builder_in_real_annotations(real_data):
    coco = json.loads((real_data / "coco/instances_val2014_100images.json").read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    images = {image["id"]: [] for image in coco["images"]}
    for record in coco["annotations"]:
        x, y, width, height = record["bbox"]
        box = Box(x, y, x + width, y + height)
        category = names[record["category_id"]]
        images[record["image_id"]].append(Instance(category, box, crowd=bool(record["iscrowd"])))
    pairs = [
        [fact for fact in clear_pairs(instances, "horizontal") if fact.side == "left"]
        for instances in images.values()
    ]
    expected = json.loads((real_data / "expected/expected.json").read_text())["coco_spatial"]
    assert sum(map(len, pairs)) == expected["left_right_pairs"]
    assert sum(map(bool, pairs)) == expected["images_with_a_pair"]


def test_a_question_knows_its_answers():
    (question,) = ask([DOG, TREE])
    assert question.text == "Which side is dog on?"
    assert question.fact.side == "left"
    assert question.candidates == ("left.", "right.")
    assert question.examples == ()


def test_questions_are_the_same_for_a_seed():
    instances = [DOG, CAT, CUP, TREE]
    asked = [list(side_questions(instances, SIZE, WORDING, Random(seed))) for seed in (1, 1, 2)]
    assert asked[0] == asked[1] != asked[2]


def test_an_image_without_clear_sides_is_not_asked_about():
    assert list(side_questions([TREE], SIZE, WORDING, Random(0))) == []


@pytest.mark.parametrize("seed", range(8))
def test_worked_examples_on_the_image_are_about_other_objects_one_of_each_side(seed):
    bird = Instance("bird", Box(5, 5, 10, 10))
    (question,) = ask([DOG, CAT, CUP, bird], in_context=True, seed=seed)
    asked = question.fact.instance.category
    assert all(asked not in text for text, _ in question.examples)
    assert {reply for _, reply in question.examples} == {"left.", "right."}


@pytest.mark.parametrize("seed", range(8))
def test_worked_examples_on_pairs_are_about_a_third_object_and_one_of_the_two(seed):
    (question,) = ask([DOG, CAT, CUP], kind="object", in_context=True, seed=seed)
    asked = {instance.category for instance in question.fact.instances}
    for text, reply in question.examples:
        *_, other, _, category = text.removesuffix("?").split()
        assert len({category, other} & asked) == 1
        assert reply == ("left." if category == "dog" else "right.")
    assert len({reply for _, reply in question.examples}) == 2


def test_two_objects_are_too_few_for_worked_examples():
    assert ask([DOG, CAT], kind="object")
    assert not ask([DOG, CAT], kind="object", in_context=True)
    assert not ask([DOG, CAT], in_context=True)


def test_objects_can_be_called_by_other_names():
    fact = object_facts([DOG, CAT], SIZE, "horizontal")[0]
    asked = WORDING.ask(fact, Random(0), ["brown dog", "old cat"])
    assert asked == "Which side of old cat is brown dog?"
    assert fact.say("{category} is {side} of {other}") == "dog is left of cat"


def test_refuses_a_wording_that_cannot_ask_along_an_axis():
    with pytest.raises(ConfigError, match="no question asks for vertical sides"):
        SideWording(image={"horizontal": ["?"], "vertical": []}, object=WORDING.object)


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_a_swapped_pair_has_the_opposite_side(axis):
    for fact in object_facts([DOG, CAT, CUP], SIZE, axis):
        assert swapped(fact) in object_facts([DOG, CAT, CUP], SIZE, axis)
        assert swapped(swapped(fact)) == fact
    (image_fact,) = image_facts([DOG], SIZE, axis)
    assert swapped(image_fact) == image_fact


def test_a_mirrored_image_turns_left_and_right_but_neither_above_nor_below():
    (fact,) = image_facts([DOG], SIZE, "horizontal")
    turned = mirrored(fact, 100)
    assert (turned.side, turned.instance.box) == ("right", Box(70, 0, 100, 10))
    assert mirrored(turned, 100) == fact
    for axis in ("horizontal", "vertical"):
        flipped = [
            replace(one, box=Box(100 - one.box.x2, one.box.y1, 100 - one.box.x1, one.box.y2))
            for one in (DOG, CAT, CUP)
        ]
        facts = [mirrored(fact, 100) for fact in object_facts([DOG, CAT, CUP], SIZE, axis)]
        assert facts == object_facts(flipped, SIZE, axis)
