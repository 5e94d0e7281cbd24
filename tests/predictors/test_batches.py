import pytest
import torch

from locvlm.errors import LocVLMError
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

    assert in_batches(asked, 2, run) == [one.key for one in asked]
    order = [one for batch in batches for one in batch]
    assert [len(batch) for batch in batches] == [2, 2, 2]
    assert [name for name, _ in order] == ["red"] * 3 + ["blue"] * 3
    assert [text for _, text in order] == ["short", "a long one", "longest of all"] * 2


def test_a_location_counts_as_its_usual_text():
    asked = [question(PHOTOS[0], "x" * 20, Box(1, 2, 3, 4)), question(PHOTOS[0], "x" * 40)]
    assert in_batches(asked, 2, lambda batch: [len(one.messages[0].parts) for one in batch]) == [
        2,
        1,
    ]
    first = in_batches(asked, 1, lambda batch: [batch[0].key])
    assert first == [one.key for one in asked]


def test_full_memory_is_told_with_what_to_lower():
    def run(batch):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    with pytest.raises(LocVLMError, match="full with a batch of 2 questions") as error:
        in_batches([question(photo, "?") for photo in PHOTOS], 4, run)
    assert "predictor.batch_size" in str(error.value)
    assert "more" not in str(error.value)
