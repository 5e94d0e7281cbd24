import io

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.errors import DataError
from locvlm.images import decode_image
from locvlm.models.inputs import to_messages, to_sample
from locvlm.types import Message, Point

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "image",
    [
        encoded(),
        PIXELS,
        PIXELS / 255,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        Image.fromarray(PIXELS),
        Image.fromarray(PIXELS).convert("RGBA"),
    ],
    ids=["bytes", "array", "float array", "tensor", "float tensor", "PIL", "PIL with alpha"],
)
def test_all_forms_of_an_image_give_its_pixels(image):
    sample = to_sample(image)
    assert sample.size == (7, 5)
    pixels = decode_image(sample.image, sample.source).permute(1, 2, 0).numpy()
    assert np.array_equal(pixels, PIXELS)


def test_a_file_keeps_its_bytes_and_its_name(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded())
    for image in (path, str(path)):
        sample = to_sample(image)
        assert (sample.image, sample.source, sample.size) == (encoded(), str(path), (7, 5))


def test_grey_pictures_are_images_too():
    assert to_sample(PIXELS[..., 0]).size == (7, 5)
    assert to_sample(torch.zeros(1, 5, 7)).size == (7, 5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "no image was given"),
        (3, "int is no image"),
        ("nowhere.jpg", "(?s)cannot read this image.*nowhere.jpg"),
        (
            "https://example.org/a.jpg",
            "(?s)not fetched.*example.org/a.jpg.*give its path or its bytes",
        ),
        (b"hello", "not an image"),
        (PIXELS.astype(np.int64), "an image of int64"),
        (PIXELS / 255 - 1, "floats outside 0 to 1"),
        (np.zeros((2, 5, 7, 3)), "2 x 5 x 7 x 3"),
        (torch.zeros(5, 7, 3), "7 x 3 x 5"),
        (np.zeros((0, 7, 3), np.uint8), "0 x 7 x 3 without a pixel"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        to_sample(image)


def test_a_question_is_a_conversation_of_one_turn():
    assert to_messages("What is this?") == [Message("user", ("What is this?",))]


def test_turns_may_be_written_as_transformers_writes_them():
    turns = [
        {"role": "user", "content": "What is this?"},
        {"role": "assistant", "content": "A dog."},
        Message("user", (Point(1, 2),)),
    ]
    assert to_messages(turns) == [
        Message("user", ("What is this?",)),
        Message("assistant", ("A dog.",)),
        Message("user", (Point(1, 2),)),
    ]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ("", "question is empty"),
        ([{"role": "user", "content": " "}], "question is empty"),
        ([], "does not end with a question"),
        ([Message("assistant", ("Yes.",))], "does not end with a question"),
        ([{"role": "system", "content": "Be brief."}], r"no turn of a conversation: .*system"),
        ([{"from": "human", "value": "Hi"}], r"no turn of a conversation(?s:.*)messages\[0\]"),
        (["What is this?"], "no turn of a conversation"),
    ],
)
def test_what_is_no_conversation_is_refused(messages, message):
    with pytest.raises(DataError, match=message):
        to_messages(messages)
