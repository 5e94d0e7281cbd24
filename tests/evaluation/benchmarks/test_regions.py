from dataclasses import replace

from locvlm.evaluation.benchmarks.regions import Regions
from tests.evaluation.conftest import CAT, DOG, answered, counts, read, values

PART = Regions(["What is at {location}?"])


def score(sample, *texts):
    questions = PART.questions([sample])
    by_key = dict(zip([question.key for question in questions], texts, strict=True))
    return PART.score(answered(questions, lambda question: by_key[question.key]), read)


def test_asks_with_the_box_itself(sample):
    assert [question.messages[-1].parts for question in PART.questions([sample])] == [
        ("What is at ", DOG.box, "?"),
        ("What is at ", CAT.box, "?"),
    ]


def test_the_full_description_is_right_and_so_is_its_category(sample):
    found = score(sample, "There is a black dog.", "there is a cat")
    assert values(found) == {"regions.category": 1, "regions.description": 1}
    # Only the dog has a description of its own.
    assert counts(found) == {"regions.category": 2, "regions.description": 1}
    assert [item.outcome for item in found.items] == ["right", "right"]


def test_the_category_alone_is_half_of_it(sample):
    found = score(sample, "There is a dog.", "There is a dog.")
    assert values(found) == {"regions.category": 0.5, "regions.description": 0}
    assert [item.outcome for item in found.items] == ["category only", "wrong"]


def test_naming_all_categories_is_wrong(sample):
    found = score(sample, "a dog, a cat", "")
    assert values(found)["regions.category"] == 0


def test_data_without_descriptions_have_no_such_metric(sample):
    found = PART.score(
        answered(PART.questions([replace(sample, instances=(CAT,))]), lambda _: "a grey cat"), read
    )
    assert values(found) == {"regions.category": 1}
    assert found.items[0].outcome == "right"
    assert PART.score([], read).metrics == []
