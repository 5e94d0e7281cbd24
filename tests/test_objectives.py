from collections import Counter
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.objectives import (
    LocPred,
    Mix,
    NegPred,
    Presence,
    RevLoc,
    nameable_instances,
    single_instances,
)
from locvlm.types import Box, Instance, Point, Sample

LOCALIZE = ["Where is {category} in terms of {repr}?", "Localize {category} as {repr}?"]
DESCRIBE = ["What is at {location}?"]
PRESENCE = ["Is there {article} {category}?"]
CAT = Instance("cat", Box(10, 20, 30, 40), description="cat that is grey")
DOG = Instance("dog", Box(0, 0, 5, 5))
SAMPLE = Sample("k", "test", instances=(CAT, DOG), absent=("bird", "cow"))


def turns(objective, seed=0, sample=SAMPLE):
    return list(objective.turns(sample, Random(seed)))


def texts(messages):
    return ["".join(p if isinstance(p, str) else repr(p) for p in m.parts) for m in messages]


def test_locpred_asks_for_each_instance_once_and_answers_with_its_box():
    answers = {answer.parts for _, answer in turns(LocPred(LOCALIZE))}
    assert answers == {
        ("It is located at ", CAT.box, "."),
        ("It is located at ", DOG.box, "."),
    }


def test_locpred_names_an_object_by_its_description_where_it_has_one():
    questions = {"".join(question.parts) for question, _ in turns(LocPred(LOCALIZE[:1]))}
    assert questions == {
        "Where is cat that is grey in terms of (x1,y1,x2,y2) bbox?",
        "Where is dog in terms of (x1,y1,x2,y2) bbox?",
    }


def test_description_share_of_zero_names_categories():
    questions = texts(q for q, _ in turns(LocPred(LOCALIZE, description_share=0)))
    assert not any("grey" in question for question in questions)


def test_point_share_asks_for_centres():
    for question, answer in turns(LocPred(LOCALIZE, point_share=1)):
        assert "(cx,cy) point" in question.parts[0]
        assert isinstance(answer.parts[1], Point)


def test_number_weights_travel_with_the_answer_only():
    for question, answer in turns(LocPred(LOCALIZE, number_weights=[8, 3])):
        assert (question.number_weights, answer.number_weights) == ((), (8, 3))


def test_negpred_shares_its_prompts_with_locpred():
    asked = Counter()
    for seed in range(200):
        for question, answer in turns(NegPred(LOCALIZE), seed):
            assert answer.parts == ("There is no such object in the image.",)
            asked["".join(question.parts)] += 1
    assert asked.keys() == {
        prompt.replace("{category}", name).replace("{repr}", "(x1,y1,x2,y2) bbox")
        for prompt in LOCALIZE
        for name in SAMPLE.absent
    }


def test_revloc_gives_the_box_and_wants_the_description():
    pairs = {(question.parts[1], answer.parts) for question, answer in turns(RevLoc(DESCRIBE))}
    assert pairs == {
        (CAT.box, ("There is a cat that is grey.",)),
        (DOG.box, ("There is a dog.",)),
    }


def test_presence_asks_as_often_for_absent_objects_as_for_those_that_are_there():
    asked = {question.parts: answer.parts for question, answer in turns(Presence(PRESENCE))}
    yes = {question for question, answer in asked.items() if answer == ("Yes.",)}
    assert yes == {("Is there a cat that is grey?",), ("Is there a dog?",)}
    no = {question for question, answer in asked.items() if answer == ("No.",)}
    assert len(no) == 2
    assert all(any(name in question for name in SAMPLE.absent) for (question,) in no)


def test_presence_mixes_both_answers():
    firsts = {turns(Presence(PRESENCE), seed)[0][1].parts for seed in range(30)}
    assert firsts == {("Yes.",), ("No.",)}


def test_answers_weigh_what_they_are_told_and_numbers_their_own():
    [(_, answer), *_] = turns(LocPred(LOCALIZE, weight=4, number_weights=[8, 3]))
    assert (answer.weight, answer.number_weights) == (4, (8, 3))
    for objective in (
        NegPred(LOCALIZE, weight=4),
        RevLoc(DESCRIBE, weight=4),
        Presence(PRESENCE, weight=4),
    ):
        assert {answer.weight for _, answer in turns(objective)} == {4}


def test_categories_that_occur_twice_are_never_asked_for():
    twice = (CAT, Instance("cat", Box(1, 1, 2, 2)), DOG)
    assert single_instances(twice) == [DOG]


def test_a_crowd_makes_its_category_occur_many_times():
    assert single_instances((Instance("cat", CAT.box, crowd=True), DOG)) == [DOG]


REFERRED = Instance("cat", Box(1, 1, 2, 2), description="left cat", unique=True)
TWO_CATS = Sample("k", "test", instances=(CAT, REFERRED, DOG))


def test_a_unique_description_makes_one_of_many_nameable():
    assert nameable_instances(TWO_CATS.instances) == [REFERRED, DOG]
    assert single_instances(TWO_CATS.instances) == [DOG]
    bare = Instance("cat", CAT.box, unique=True)
    assert nameable_instances((CAT, bare)) == []


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (LocPred(["{category}"], description_share=0), {"left cat", "dog"}),
        (RevLoc(["what?"], "{description}", description_share=0), {"left cat", "dog"}),
        (Presence(["{category}"], description_share=0), {"left cat", "dog"}),
    ],
)
def test_what_only_its_description_tells_apart_is_never_named_by_its_category(objective, said):
    asked = turns(objective, sample=TWO_CATS)
    assert {text for turn in asked for text in texts(turn)} >= said
    assert "cat" not in {text for turn in asked for text in texts(turn)}


def test_mix_draws_in_proportion_to_its_weights():
    many = tuple(Instance(f"c{i}", CAT.box) for i in range(400))
    sample = Sample("k", "test", instances=many, absent=tuple(f"a{i}" for i in range(400)))
    mix = Mix([LocPred(LOCALIZE), NegPred(LOCALIZE)], [3, 1], turns=400)
    answers = mix(sample, Random(1))[1::2]
    refusals = sum(answer.parts[0].startswith("There is no") for answer in answers)
    assert len(answers) == 400
    assert 70 < refusals < 130


def test_mix_gives_the_share_of_an_exhausted_objective_to_the_others():
    mix = Mix([LocPred(LOCALIZE), NegPred(LOCALIZE)], [1, 1], turns=10)
    assert len(mix(SAMPLE, Random(0))) == 2 * 4


def test_mix_alternates_user_and_assistant_and_repeats_for_a_seed():
    mix = Mix([LocPred(LOCALIZE), RevLoc(DESCRIBE)], [1, 1], turns=3)
    messages = mix(SAMPLE, Random(4))
    assert [m.role for m in messages] == ["user", "assistant"] * 3
    assert messages == mix(SAMPLE, Random(4)) != mix(SAMPLE, Random(5))


def test_an_image_without_instances_gives_no_turns():
    assert Mix([LocPred(LOCALIZE)], [1])(Sample("k", "test"), Random(0)) == []


def test_length_counts_the_objectives_that_can_be_drawn():
    assert len(Mix([], [])) == 0
    assert len(Mix([LocPred(LOCALIZE), NegPred(LOCALIZE)], [1, 0])) == 1


@pytest.mark.parametrize("weights", [[1], [1, -1]])
def test_refuses_weights_that_do_not_match(weights):
    with pytest.raises(ConfigError, match="2 objectives need as many weights"):
        Mix([LocPred(LOCALIZE), NegPred(LOCALIZE)], weights)


def test_refuses_zero_turns():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Mix([], [], turns=0)
