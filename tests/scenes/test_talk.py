import re
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.scenes.scene import scenes
from locvlm.scenes.talk import SideTalk, Topics
from locvlm.scenes.topics import Compare, Presence
from locvlm.spatial import side_of_image, side_of_object

SIDES = {"left.", "right.", "above.", "below."}


@pytest.fixture(scope="module")
def drawn(world):
    return list(scenes(world, "train", 1200))


@pytest.fixture(scope="module")
def records(drawn, talk):
    return [talk.record(scene, Random(scene.key)) for scene in drawn]


def turns_of(record):
    values = [turn["value"] for turn in record["conversations"]]
    values[0] = values[0].replace("<image>\n", "").replace("\n<image>", "")
    return list(zip(values[::2], values[1::2], strict=True))


def templates_of(wording):
    kinds = (wording.image, wording.object)
    return [t for kind in kinds for templates in kind.values() for t in templates]


def pattern(template):
    return re.sub(r"\\\{[a-z_]+\\\}", "(.+)", re.escape(template))


def test_records_have_llavas_format(drawn, records):
    for scene, record in zip(drawn, records, strict=True):
        speakers = [turn["from"] for turn in record["conversations"]]
        assert speakers == ["human", "gpt"] * (len(speakers) // 2)
        assert record["image"] == f"{record['id']}.png" == f"{scene.key}.png"
        markers = ["<image>" in turn["value"] for turn in record["conversations"]]
        assert markers == [True] + [False] * (len(markers) - 1)


def test_kinds_come_in_their_shares(records):
    kinds = Counter(record["kind"] for record in records)
    assert set(kinds) == {"conversation", "detail", "reasoning"}
    assert kinds["conversation"] / len(records) == pytest.approx(0.6, abs=0.05)
    assert {len(turns_of(r)) for r in records if r["kind"] == "detail"} == {1}


def test_a_small_share_of_the_turns_asks_for_sides(records):
    answers = [answer for r in records if r["kind"] != "detail" for _, answer in turns_of(r)]
    sides = Counter(answer for answer in answers if answer in SIDES)
    assert sum(sides.values()) / len(answers) == pytest.approx(0.1, abs=0.02)
    assert set(sides) == SIDES
    assert min(sides.values()) > 0.7 * max(sides.values())


def test_a_small_share_of_the_descriptions_states_a_side(records):
    captions = [turns_of(r)[0][1] for r in records if r["kind"] == "detail"]
    stating = [caption for caption in captions if caption.count(".") > 1]
    assert len(stating) / len(captions) == pytest.approx(0.1, abs=0.05)


def test_answers_about_sides_are_true(drawn, talk):
    n_checked = 0
    for scene in drawn:
        named = {item.shape: item.box for item in scene.objects}
        turn = talk.sides.turn(scene, Random(scene.key), 0.5)
        if turn is None:
            continue
        words = re.findall(r"\w+", turn[0])
        boxes = {word: named[word] for word in words if word in named}
        side = turn[1].removesuffix(".")
        axis = "horizontal" if side in ("left", "right") else "vertical"
        if len(boxes) == 1:
            assert side_of_image(*boxes.values(), (64, 64), axis) == side
        else:
            # Whichever is asked for, the two orders have opposite answers
            first, second = boxes.values()
            mirrored = turn[0].startswith(("Which side of the", "On which side", "Seen from the"))
            asked, other = (second, first) if mirrored else (first, second)
            assert side_of_object(asked, other, axis) == side
        n_checked += 1
    assert n_checked > 900


def test_statements_about_sides_are_true(drawn, talk):
    found = Counter()
    for scene in drawn[:300]:
        named = {item.shape: item.box for item in scene.objects}
        text = talk.sides.statement(scene, Random(scene.key), 0.5) or ""
        boxes = [named[word] for word in re.findall(r"\w+", text) if word in named]
        side = next((word for word in ("left", "right", "above", "below") if word in text), None)
        axis = "horizontal" if side in ("left", "right") else "vertical"
        if len(boxes) == 1:
            assert side_of_image(boxes[0], (64, 64), axis) == side
        elif boxes:
            assert side_of_object(*boxes, axis) == side
        found[len(boxes)] += 1
    assert min(found[1], found[2]) > 50


def test_all_side_questions_are_of_the_trained_wording(drawn, talk, sides):
    trained = templates_of(sides["trained"])
    for scene in drawn[:300]:
        turn = talk.sides.turn(scene, Random(scene.key), 0.5)
        assert turn is None or any(re.fullmatch(pattern(t), turn[0]) for t in trained)


def test_training_never_contains_a_held_out_wording(records, sides):
    patterns = [re.compile(pattern(template)) for template in templates_of(sides["held_out"])]
    questions = [question for record in records for question, _ in turns_of(record)]
    assert len(patterns) >= 8
    assert not [q for q in questions if any(p.fullmatch(q) for p in patterns)]


def test_held_out_wordings_use_only_words_of_the_training_text(records, sides):
    text = " ".join(f"{q} {a}" for record in records for q, a in turns_of(record))
    asked = re.sub(r"\{[a-z]+\}", "", " ".join(templates_of(sides["held_out"])))
    words = re.findall(r"\w+", asked)
    assert set(words) <= set(re.findall(r"\w+", text))


def test_questions_of_sides_do_not_name_the_side(sides):
    for wording in sides.values():
        assert not [template for template in templates_of(wording) if "{side}" in template]


def test_the_share_of_sides_is_a_setting(drawn, talk):
    for share, expected in ((0.0, 0), (1.0, 1)):
        set_to = replace(talk, sides_share=share, kinds={"conversation": 1})
        records = [set_to.record(s, Random(0)) for s in drawn[:60] if len(s.objects) == 4]
        answers = [answer for record in records for _, answer in turns_of(record)]
        assert {answer in SIDES for answer in answers} == {bool(expected)}


def test_a_record_is_the_same_for_a_seed(drawn, talk):
    first, again, other = (talk.record(drawn[0], Random(seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_refuses_a_kind_that_it_does_not_know(talk):
    with pytest.raises(ConfigError, match=r"not shares of conversation, detail, reasoning.*story"):
        replace(talk, kinds={"story": 1})


@pytest.mark.parametrize("change", [{"sides_share": 1.1}, {"descriptions": -0.1}, {"turns": 0}])
def test_refuses_shares_and_turns_out_of_range(talk, change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(talk, **change)


def test_refuses_weights_that_do_not_match(talk):
    with pytest.raises(ConfigError, match="1 topics need as many weights"):
        Topics([Presence(["?"])], [1, 1])
    with pytest.raises(ConfigError, match="not all of them 0"):
        SideTalk(talk.sides.wording, talk.sides.statements, {"image": 0})


def test_says_when_no_topic_fits_a_scene(world, talk, drawn):
    flat = replace(drawn[0], objects=drawn[0].objects[:1])
    topics = Topics([Compare(["?"], "!")], [1])
    only = replace(talk, kinds={"reasoning": 1}, reasoning=topics, sides_share=0.0)
    with pytest.raises(ConfigError, match="no topic has a question about scene train-000000"):
        only.record(flat, Random(0))
