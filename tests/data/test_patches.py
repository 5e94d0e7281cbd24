"""Only what holds whatever an encoder is trained with."""

from dataclasses import replace

import pytest
import torch

from locvlm.data import Draw, Source
from locvlm.data.patches import PatchDataModule
from locvlm.errors import ConfigError
from locvlm.types import Box, Instance
from tests.data.conftest import annotated, talked

WORDS = {"shape": ["square", "circle"], "color": ["blue", "red", "green"]}
# A frame of 4 x 4 patches shows an image of 48 x 40 pixels: a patch is 12 x 10 of them.
MIDDLE = Box(12, 10, 36, 20)


def shown(n, **instance):
    one = Instance(**({"category": "circle", "box": MIDDLE} | instance))
    return replace(annotated(n), instances=(one,))


@pytest.fixture
def data(shards, processor):
    def make(samples, words=WORDS, **options):
        source = Source(shards(samples))
        options = {"batch_size": 2} | options
        return PatchDataModule(processor, {"images": source}, words=words, **options)

    return make


def labels(data, n=0):
    """(G, rows, columns) of the n-th sample."""
    return data.examples("train")[Draw(0, n, 0)]["example"]["labels"].view(-1, 4, 4)


def test_each_group_says_in_its_own_words_what_a_patch_shows(data):
    shape, color = labels(data([shown(0, description="red circle")]))
    row = torch.tensor([0, 1, 1, 0])
    assert shape[1].equal(2 * row)
    assert color[1].equal(2 * row)
    assert not shape[[0, 2, 3]].any()
    assert not color[[0, 2, 3]].any()


def test_a_category_serves_where_there_is_no_description(data):
    shape, color = labels(data([shown(0)]))
    assert set(shape.flatten().tolist()) == {0, 2}
    assert not color.any()


def test_only_whole_words_name_an_object(data):
    words = {"things": ["ring", "light", "traffic light"]}
    samples = [shown(0, category="string"), shown(1, category="traffic lights")]
    module = data(samples, words)
    assert not labels(module, 0).any()
    assert not labels(module, 1).any()
    [label] = labels(data([shown(0, category="traffic light")], {"things": ["traffic light"]}))
    assert set(label.flatten().tolist()) == {0, 1}


def test_an_image_without_objects_is_background(data):
    assert not labels(data([replace(annotated(0), instances=())])).any()


def test_batches_hold_images_and_a_row_of_patches_for_each_group(data):
    batch = next(iter(data([shown(n) for n in range(3)]).train_dataloader()))
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["pixel_values"].dtype == torch.uint8
    assert batch["labels"].shape == (2, 2, 16)
    assert batch["labels"].dtype == torch.int64


def test_a_text_without_image_gives_its_place_to_another_and_is_named(data):
    text = replace(talked(0), image=None, size=None)
    loaded = data([text, shown(1)]).examples("train")[Draw(0, 0, 0)]
    assert "without an image" in loaded["skipped"][0]
    assert "talk.json, record 0" in loaded["skipped"][0]
    assert loaded["example"]["labels"].any()


@pytest.mark.parametrize("words", [{}, {"shape": []}, {"shape": ["circle"], "color": []}])
def test_refuses_a_group_without_words(data, words):
    with pytest.raises(ConfigError, match="group of words is empty") as error:
        data([shown(0)], words)
    assert error.value.where == "data.words"
