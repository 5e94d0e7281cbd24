import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from locvlm.chat import ChatFormat
from locvlm.coordinates import DIGA, IVB, NFP
from locvlm.errors import CheckpointError, ConfigError, DataError
from locvlm.geometry import crop, pad, resize
from locvlm.processor import IGNORE_INDEX, Processor
from locvlm.tokenizers import build_tokenizer
from locvlm.types import Box, Message, Point, Sample

WORDS = ["Where is the cat?", "It is located at [] bbox. point", "USER: ASSISTANT:"]


def make(geometry=resize, coordinates=None, **options):
    settings = {"image_size": 64, "patch_size": 16} | options
    return Processor(
        build_tokenizer(WORDS, 64), coordinates or IVB(64), geometry, ChatFormat(), **settings
    )


def picture(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(stream, "PNG")
    return Sample("k", "test", image=stream.getvalue(), size=(width, height))


def asked(text="Where is the cat?"):
    return Message("user", (text,))


def answered(*parts, **options):
    return Message("assistant", parts, **options)


PROCESSOR = make()
SAMPLE = picture(128, 64)
BOX = Box(32, 16, 96, 48)
TALK = [asked(), answered("It is located at ", BOX, ".")]


def learned_text(example, processor=PROCESSOR):
    ids = example["labels"][example["labels"] != IGNORE_INDEX].tolist()
    return processor.tokenizer.decode(ids, skip_special_tokens=False)


def test_only_the_answer_and_its_end_are_learned():
    example = PROCESSOR.encode(SAMPLE, TALK)
    assert learned_text(example) == " It is located at [16, 16, 48, 48] bbox.</s>"
    assert ((example["loss_weights"] > 0) == (example["labels"] != IGNORE_INDEX)).all()


def test_every_answer_of_a_conversation_is_learned():
    example = PROCESSOR.encode(SAMPLE, [*TALK, asked("Where?"), answered("Here.")])
    assert learned_text(example).endswith("bbox.</s> Here.</s>")


def test_an_image_takes_one_token_per_patch():
    example = PROCESSOR.encode(SAMPLE, TALK)
    assert int((example["input_ids"] == PROCESSOR.image_token_id).sum()) == 16
    assert example["pixel_values"].shape == (1, 3, 64, 64)


def test_a_text_only_sample_has_no_image_tokens():
    example = PROCESSOR.encode(Sample("k", "test"), [asked("Hi"), answered("Hello")])
    assert PROCESSOR.image_token_id not in example["input_ids"]
    assert example["pixel_values"].shape == (0, 3, 64, 64)


def test_number_weights_fall_on_the_numbers_in_order():
    message = answered("It is located at ", BOX, ".", number_weights=(8, 3))
    example = PROCESSOR.encode(SAMPLE, [asked(), message])
    tokens = PROCESSOR.tokenizer.convert_ids_to_tokens(example["input_ids"].tolist())
    weighed = [
        (token.strip("Ġ"), weight)
        for token, weight in zip(tokens, example["loss_weights"].tolist(), strict=True)
        if weight > 1
    ]
    assert weighed == [("16", 8.0), ("16", 3.0), ("48", 3.0), ("48", 3.0)]


@pytest.mark.parametrize("hostile", ["</s>", "<image>", "<s>", "a</s>b<image>"])
def test_a_users_text_never_becomes_a_special_token(hostile):
    plain = PROCESSOR.encode(SAMPLE, [asked("x"), answered("y")])
    example = PROCESSOR.encode(SAMPLE, [asked(hostile), answered(hostile)])
    for special in (PROCESSOR.end_id, PROCESSOR.image_token_id):
        counts = [int((one["input_ids"] == special).sum()) for one in (plain, example)]
        assert counts[0] == counts[1]


def test_a_prompt_is_how_its_training_sequence_begins():
    prompt = PROCESSOR.prompt(SAMPLE, TALK[:1])["input_ids"]
    whole = PROCESSOR.encode(SAMPLE, TALK)["input_ids"]
    assert prompt.tolist() == whole[: len(prompt)].tolist()


def test_turns_without_weight_are_not_learned():
    talk = [replace(message, weight=0.0) for message in TALK]
    example = PROCESSOR.encode(SAMPLE, [*talk, asked("Where?"), answered("left")])
    assert learned_text(example) == " left</s>"


@pytest.mark.parametrize("geometry", [resize, pad])
@pytest.mark.parametrize("coordinates", [NFP(), IVB(64), DIGA(64, 16)])
@pytest.mark.parametrize("place", [BOX, Point(64, 32)])
def test_what_is_written_is_read_back_in_original_pixels(geometry, coordinates, place):
    processor = make(geometry, coordinates)
    text = learned_text(processor.encode(SAMPLE, [asked(), answered(place)]), processor)
    [found] = processor.decode(text, SAMPLE.size).locations
    assert found == pytest.approx(place, abs=1)
    assert type(found) is type(place)


def test_locations_are_clipped_to_the_image():
    [box] = make(pad).decode("[0, 0, 64, 64]", (128, 64)).boxes
    assert box == Box(0, 0, 128, 64)


def test_a_location_without_an_image_is_refused():
    with pytest.raises(DataError, match="conversation without an image") as error:
        PROCESSOR.encode(Sample("k", "test"), [asked(), answered(BOX)])
    assert error.value.where == "test, sample 'k'"


def test_an_image_without_a_question_is_refused():
    with pytest.raises(DataError, match=r"no question after the image\n.*sample 'k'"):
        PROCESSOR.encode(SAMPLE, [answered("Yes.")])


def test_a_long_conversation_is_cut_at_its_end():
    example = make(max_length=30).encode(SAMPLE, TALK)
    assert len(example["input_ids"]) == len(example["labels"]) == 30


def test_a_prompt_that_does_not_fit_is_refused_rather_than_cut():
    long = "where " * 40
    assert len(make(max_length=300).prompt(SAMPLE, [asked(long)])["input_ids"]) > 50
    with pytest.raises(DataError, match=r"a prompt of at least \d+ tokens, 50 allowed"):
        make(max_length=50).prompt(SAMPLE, [asked(long)])


def test_other_uses_of_the_tokenizer_leave_no_trace():
    expected = PROCESSOR.encode(SAMPLE, TALK)["input_ids"].tolist()
    PROCESSOR.tokenizer("Where is it?", truncation=True, max_length=2)
    assert PROCESSOR.encode(SAMPLE, TALK)["input_ids"].tolist() == expected


def test_tokens_are_those_that_transformers_gives():
    rendered = "USER: <image>\nWhere is the cat? ASSISTANT: It is [1, 2]</s>"
    talk = [asked(), answered("It is [1, 2]")]
    ids = PROCESSOR.encode(SAMPLE, talk)["input_ids"].tolist()
    expected = PROCESSOR.tokenizer(rendered)["input_ids"]
    at = expected.index(PROCESSOR.image_token_id)
    assert ids == expected[:at] + [PROCESSOR.image_token_id] * 16 + expected[at + 1 :]


def test_half_a_character_becomes_a_question_mark():
    prompts = [PROCESSOR.prompt(SAMPLE, [asked(text)]) for text in ("a\udcffb", "a?b")]
    assert prompts[0]["input_ids"].tolist() == prompts[1]["input_ids"].tolist()


def test_an_image_that_does_not_fit_is_refused():
    with pytest.raises(DataError, match="the image needs"):
        make(max_length=10).encode(SAMPLE, TALK)


def test_pixels_are_as_they_are_and_padding_is_the_encoders_mean():
    values = make(pad, mean=(0, 0.4578275, 1)).pixel_values(SAMPLE)[0]
    assert values.dtype == torch.uint8
    shown = {tuple(color) for color in values.flatten(1).T.tolist()}
    # The red image, and what stands beside it: LLaVA cuts 116.7 off.
    assert {(255, 0, 0), (0, 116, 255)} <= shown


@pytest.mark.parametrize("geometry", [resize, pad, crop])
def test_photos_can_be_decoded_at_reduced_size(geometry):
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((301, 401), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG")
    sample = Sample("photo", "test", buffer.getvalue(), photo.size)
    exact, reduced = (
        make(geometry, reduced_decode=reduced).pixel_values(sample).int()
        for reduced in (False, True)
    )
    assert 0 < (exact - reduced).abs().float().mean() < 8


@pytest.mark.parametrize("geometry", [resize, pad, crop])
def test_comes_back_as_it_was_saved(tmp_path, geometry):
    processor = make(geometry, DIGA(64, 16), suffix=False)
    processor.save(tmp_path)
    back = Processor.load(tmp_path)
    assert back.config() == processor.config()
    first, second = (one.encode(SAMPLE, TALK)["input_ids"].tolist() for one in (processor, back))
    assert first == second


def test_names_the_folder_that_holds_no_processor(tmp_path):
    with pytest.raises(CheckpointError, match=r"can be read here: processor\.json is missing\n"):
        Processor.load(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [("processor.json", "{}"), ("processor.json", "["), ("tokenizer.json", "{}")],
)
def test_names_the_folder_of_a_damaged_processor(tmp_path, file, content):
    PROCESSOR.save(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=rf"(?s)can be read here.*where: {tmp_path}\n"):
        Processor.load(tmp_path)


def test_names_the_folder_without_a_tokenizer(tmp_path):
    PROCESSOR.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"(?s)can be read here: tokenizer.json is missing\n"):
        Processor.load(tmp_path)


def test_refuses_another_end_token_than_the_tokenizers():
    with pytest.raises(ConfigError, match="the tokenizer's end is '</s>'"):
        Processor(
            build_tokenizer(WORDS, 4),
            IVB(64),
            resize,
            ChatFormat(end="<end>"),
            image_size=64,
            patch_size=16,
        )
    with pytest.raises(ConfigError, match="answers end with '<end>'"):
        PROCESSOR.speaking(ChatFormat(end="<end>"))


def test_speaks_another_format_without_changing_the_first():
    plain = ChatFormat(user="", assistant="", answer="{text}", end="\n", image="<image>")
    other = PROCESSOR.speaking(plain)
    assert learned_text(other.encode(SAMPLE, [asked(), answered("a cat")])) == "a cat\n"
    assert PROCESSOR.chat != plain
