import re
from random import Random

import pytest
from omegaconf import OmegaConf

from locvlm.scenes.corpus import corpus
from locvlm.scenes.scene import scenes


@pytest.fixture(scope="module")
def texts(world, talk, sides):
    return corpus(world, [talk, sides])


def words(text):
    return set(re.findall(r"\w+", text))


def test_holds_every_word_of_training_text_and_held_out_questions(texts, world, talk):
    known = words(" ".join(texts))
    for scene in scenes(world, "train", 1000):
        record = talk.record(scene, Random(scene.key))
        said = " ".join(turn["value"] for turn in record["conversations"]).replace("<image>", "")
        assert words(said) <= known


def test_is_sorted_and_without_fields_or_repeats(texts):
    assert texts == sorted(set(texts))
    assert not [text for text in texts if "{" in text]
    assert len(texts) < 150


def test_takes_further_texts_however_they_are_nested(world):
    prompts = OmegaConf.create({"localize": ["Where is {category}?"], "more": {"deep": ["Look!"]}})
    assert {"Where is  ?", "Look!"} <= set(corpus(world, prompts))


def test_counts_no_further_than_the_world_does(texts):
    assert "four" in texts
    assert "five" not in texts
