from dataclasses import replace

from locvlm.evaluation.benchmarks.hallucination import IS_THERE, Hallucination
from tests.evaluation.conftest import answered, counts, read, values

PART = Hallucination(
    ["Is there {article} {category} in the image?"], ["Where is {category} ({repr})?"]
)
REFUSAL = "There is no such object in the image."


def score(sample, text_of):
    return PART.score(answered(PART.questions([sample]), text_of), read)


def honest(question):
    if question.meta["form"] == IS_THERE:
        return "Yes." if question.meta["present"] else "No."
    return "[10, 10, 30, 30]" if question.meta["present"] else REFUSAL


def test_asks_as_often_for_present_as_for_absent_names_in_both_forms(sample):
    questions = PART.questions([sample])
    kinds = [(question.meta["form"], question.meta["present"]) for question in questions]
    assert {kind: kinds.count(kind) for kind in kinds} == dict.fromkeys(set(kinds), 2)
    assert len(set(kinds)) == 4
    names = {question.meta["name"] for question in questions if not question.meta["present"]}
    assert names < {"bird", "cow", "red dog"}


def test_an_image_with_few_absent_names_asks_for_few_present_ones(sample):
    questions = PART.questions([replace(sample, absent=("orange",))])
    assert len(questions) == 4
    assert questions[2].messages[-1].parts == ("Is there an orange in the image?",)


def test_names_that_are_present_are_never_asked_for_as_absent(sample):
    questions = PART.questions([replace(sample, absent=("cat", "black dog"))])
    assert questions == []


def test_honest_answers_are_all_right(sample):
    found = score(sample, honest)
    assert values(found) == {
        "hallucination.presence.accuracy": 1,
        "hallucination.presence.false_yes": 0,
        "hallucination.presence.yes_ratio": 0.5,
        "hallucination.presence.f1": 1,
        "hallucination.presence.parse_failures": 0,
        "hallucination.refusals.absent": 1,
        "hallucination.refusals.present": 0,
        "hallucination.refusals.parse_failures": 0,
    }
    assert {item.outcome for item in found.items} == {"right"}
    assert counts(found)["hallucination.refusals.absent"] == 2


def test_a_model_that_sees_everything_is_right_half_of_the_time(sample):
    found = score(sample, lambda q: "Yes." if q.meta["form"] == IS_THERE else "[1, 1, 5, 5]")
    assert values(found)["hallucination.presence.accuracy"] == 0.5
    assert values(found)["hallucination.presence.false_yes"] == 1
    assert values(found)["hallucination.presence.yes_ratio"] == 1
    assert values(found)["hallucination.refusals.absent"] == 0
    assert {item.outcome for item in found.items} == {"right", "false yes", "box for nothing"}


def test_a_model_that_refuses_everything_is_found_out(sample):
    found = score(sample, lambda q: "No." if q.meta["form"] == IS_THERE else REFUSAL)
    assert values(found)["hallucination.refusals.absent"] == 1
    assert values(found)["hallucination.refusals.present"] == 1
    assert {item.outcome for item in found.items} == {"right", "false no", "refused wrongly"}
    assert {item.said for item in found.items} == {"no", "there is none"}


def test_nonsense_is_yes_to_pope_but_counted_as_neither(sample):
    found = score(sample, lambda _: "purple")
    assert values(found)["hallucination.refusals.parse_failures"] == 1
    assert values(found)["hallucination.refusals.absent"] == 0
    assert {(item.said, item.score) for item in found.items} == {("neither", 0)}
    located = {item.outcome for item in found.items if item.group != "Is it there?"}
    assert located == {"neither box nor refusal"}
    assert values(found)["hallucination.presence.yes_ratio"] == 1
    assert values(found)["hallucination.presence.parse_failures"] == 1
    closed = [item for item in found.items if item.group == "Is it there?"]
    assert {(item.outcome, item.score) for item in closed} == {("neither yes nor no", 0)}


def test_a_refusal_with_a_box_is_no_refusal(sample):
    found = score(sample, lambda _: f"{REFUSAL} [1, 1, 5, 5]")
    assert values(found)["hallucination.refusals.absent"] == 0


def test_the_seed_chooses_the_names(sample):
    def keys(seed):
        part = Hallucination(PART.is_there, PART.where_is, per_image=1, seed=seed)
        return tuple(question.key for question in part.questions([sample]))

    assert keys(0) == keys(0)
    assert len({keys(seed) for seed in range(9)}) > 1
