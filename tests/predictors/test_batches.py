import threading

import pytest
import torch

from locvlm.errors import DataError, LocVLMError
from locvlm.predictors.batches import in_batches
from locvlm.types import Box, Message, Question, Sample

PHOTOS = [Sample(name, "test", image=b"", size=(10, 10)) for name in ("red", "blue")]


def question(photo, *parts):
    return Question(f"{photo.key} {parts}", photo, (Message("user", parts),))


def test_questions_about_one_image_come_together_and_short_ones_first():
    texts = ["a long one", "short", "longest of all"]
    asked = [question(photo, text) for text in texts for photo in PHOTOS]
    batches = []

    def run(batch):
        batches.append([(one.sample.key, one.messages[0].parts[0]) for one in batch])
        return [one.key for one in batch]

    assert in_batches(asked, 2, run, list) == [one.key for one in asked]
    order = [one for batch in batches for one in batch]
    assert [len(batch) for batch in batches] == [2, 2, 2]
    assert [name for name, _ in order] == ["red"] * 3 + ["blue"] * 3
    assert [text for _, text in order] == ["short", "a long one", "longest of all"] * 2


def test_a_location_counts_as_its_usual_text():
    asked = [question(PHOTOS[0], "x" * 20, Box(1, 2, 3, 4)), question(PHOTOS[0], "x" * 40)]
    order = []
    in_batches(asked, 1, lambda batch: order.append(batch[0].key) or [0], list)
    assert order == [asked[1].key, asked[0].key]  # 40 before 20 and 4 x 7


def test_the_next_batch_is_prepared_while_one_is_run():
    asked = [question(PHOTOS[0], text) for text in "abc"]
    prepared = {text: threading.Event() for text in "abc"}

    def prepare(batch):
        [text] = batch[0].messages[0].parts
        prepared[text].set()
        return text

    def run(text):
        following = {"a": "b", "b": "c", "c": "c"}[text]
        return [text + following] if prepared[following].wait(60) else []

    assert in_batches(asked, 1, run, prepare) == ["ab", "bc", "cc"]


def test_what_cannot_be_prepared_is_told():
    def prepare(batch):
        raise DataError("not an image")

    with pytest.raises(DataError, match="not an image"):
        in_batches([question(PHOTOS[0], "?")], 1, list, prepare)


def test_full_memory_is_told_with_what_to_lower():
    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    with pytest.raises(LocVLMError, match="full with a batch of 2 questions") as error:
        in_batches([question(photo, "?") for photo in PHOTOS], 4, run, list)
    assert "predictor.batch_size" in str(error.value)
    assert "more" not in str(error.value)
