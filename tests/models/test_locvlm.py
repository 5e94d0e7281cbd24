import re
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from locvlm.data.collate import collate
from locvlm.errors import ConfigError, DataError
from locvlm.models import Adapter, LocVLM, TimmEncoder
from locvlm.models.language import fresh
from locvlm.models.locvlm import DESCRIBE, LOCATE
from locvlm.processor import IGNORE_INDEX
from locvlm.types import Box, Point
from tests.tiny import (
    ENCODER,
    LLAMA,
    ask,
    dialogue,
    make_model,
    make_processor,
    make_sample,
)

CONF = Path(__file__).parents[2] / "conf"


def batch_of(processor, *pairs):
    examples = [processor.encode(sample, messages) for sample, messages in pairs]
    return dict(collate(examples, processor.pad_id))


@pytest.fixture
def batch(processor):
    text = processor.encode(make_sample(), dialogue())
    assert text["pixel_values"].shape == (1, 3, 32, 32)
    return batch_of(
        processor,
        (make_sample("red"), dialogue()),
        (make_sample("blue"), [*dialogue(Box(1, 2, 3, 4)), *dialogue()]),
    )


def test_logits_are_those_of_the_language_model_on_images_and_words(model, batch):
    ids = batch["input_ids"]
    words = model.language_model.model.embed_tokens(ids)
    images = model.adapter(model.encoder(batch["pixel_values"]))
    for row, image in enumerate(images):
        places = (ids[row] == model.image_token_id).nonzero()[:, 0]
        assert places.tolist() == list(range(places[0], places[0] + 16))
        words[row, places] = image
    expected = model.language_model(inputs_embeds=words, use_cache=False).logits
    logits = model(ids, batch["attention_mask"], pixel_values=batch["pixel_values"])
    assert torch.allclose(logits, expected, atol=1e-6)


def test_the_loss_is_the_weighted_cross_entropy_of_the_next_tokens(model, batch):
    logits = model(batch["input_ids"], pixel_values=batch["pixel_values"])[:, :-1]
    labels = batch["labels"][:, 1:]
    each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    weights = torch.rand(batch["labels"].shape)
    counted = weights[:, 1:] * (labels != IGNORE_INDEX)
    expected = (each * counted).sum() / counted.sum()
    loss = model(**(batch | {"loss_weights": weights}))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_padding_changes_nothing(model, processor, batch):
    alone = batch_of(processor, (make_sample("red"), dialogue()))
    n_tokens = alone["input_ids"].shape[1]
    assert n_tokens < batch["input_ids"].shape[1]
    expected = model(alone["input_ids"], pixel_values=alone["pixel_values"])
    padded = model(batch["input_ids"], batch["attention_mask"], pixel_values=batch["pixel_values"])
    assert torch.allclose(padded[:1, :n_tokens], expected, atol=1e-5)


def test_padding_on_the_left_is_refused(model, batch):
    with pytest.raises(DataError, match="padding stands on the left"):
        model(batch["input_ids"], batch["attention_mask"].flip(1))


def test_text_without_images_is_learned_as_well(model, processor):
    batch = batch_of(processor, (make_sample(), dialogue()))
    text = {key: value[:, -8:] for key, value in batch.items() if key != "pixel_values"}
    assert torch.isfinite(model(**text))
    assert torch.isfinite(model(**text, pixel_values=torch.zeros(0, 3, 32, 32)))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "32 image tokens for 0 images(?s:.*)all their images"),
        (torch.zeros(1, 3, 32, 32), "32 image tokens for 1 images of 16 patches"),
        (torch.zeros(3, 3, 32, 32), "32 image tokens for 3 images(?s:.*)Processor.prompt"),
    ],
)
def test_images_and_their_places_must_match(model, batch, images, message):
    with pytest.raises(DataError, match=message):
        model(batch["input_ids"], pixel_values=images)


def test_the_image_token_may_lie_outside_the_vocabulary(batch):
    processor = make_processor()
    processor.image_token_id = len(processor.tokenizer) - 1
    model = make_model(processor)
    assert model.language_model.config.vocab_size == processor.image_token_id
    ids = batch["input_ids"]
    places = ids == make_processor().image_token_id
    ids = ids.masked_fill(places, processor.image_token_id)
    assert torch.isfinite(model(ids, pixel_values=batch["pixel_values"])).all()


def test_only_parts_that_learn_get_gradients_and_frozen_ones_stay_in_evaluation_mode(batch):
    model = make_model()
    model.requires_grad_(False)
    model.adapter.requires_grad_(True)
    model.train()
    modes = (model.encoder.training, model.adapter.training, model.language_model.training)
    assert modes == (False, True, False)
    model(**batch).backward()
    assert model.adapter.net[0].weight.grad is not None
    assert model.encoder.vit.patch_embed.proj.weight.grad is None
    assert not model.features(batch["pixel_values"]).requires_grad  # no graph is kept of it


def test_the_encoder_attends_by_fused_kernels_and_multiplies_in_the_precision_around_it(batch):
    model, seen = make_model(), set()
    for block in model.encoder.vit.blocks:
        assert block.attn.fused_attn
        block.mlp.fc1.register_forward_hook(lambda *args: seen.add(args[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.features(batch["pixel_values"])
    assert seen == {torch.bfloat16}


def test_a_trained_encoder_gets_gradients(batch):
    model = make_model().train()
    model(**batch).backward()
    assert model.encoder.vit.patch_embed.proj.weight.grad.abs().sum() > 0


def test_no_cache_is_kept_in_training(batch):
    model = make_model().train()
    calls = []
    model.language_model.model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs["use_cache"]), with_kwargs=True
    )
    model(**batch)
    assert calls == [False]


def test_build_makes_the_parts_fit_each_other(processor):
    model = make_model(processor, layers=2, hidden_size=64)
    assert (model.adapter.encoder_width, model.adapter.language_width) == (32, 64)
    assert model.language_model.config.vocab_size == len(processor.tokenizer)


@pytest.mark.parametrize(
    ("encoder", "setting"),
    [
        (TimmEncoder("vit_tiny_patch16_224", 48, 8, options=ENCODER), "image_size=48"),
        (TimmEncoder("vit_tiny_patch16_224", 32, 16, options={}), "patch_size=16"),
        (
            TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER, std=[1, 1, 1]),
            "std=[1, 1, 1]",
        ),
    ],
)
def test_a_processor_for_another_encoder_is_told_what_to_type(processor, encoder, setting):
    with pytest.raises(ConfigError, match=re.escape(f"give 'model.encoder.{setting}'")):
        LocVLM.build(encoder, Adapter, partial(fresh, options=LLAMA), processor)


def test_its_own_questions_are_the_papers():
    prompts = yaml.safe_load((CONF / "prompts" / "paper.yaml").read_text())
    assert LOCATE in prompts["localize"]
    assert DESCRIBE in prompts["describe"]


class Says(LocVLM):
    """A model that says one thing, and remembers what it was asked."""

    def generate(self, prompts, **options):
        self.asked = [self.processor.tokenizer.decode(p["input_ids"]) for p in prompts]
        return [self.says for _ in prompts]


@pytest.fixture
def says(model):
    double = Says(model.encoder, model.adapter, model.language_model, model.processor)
    double.says = "It is located at [16, 8, 32, 24] bbox."
    return double


def test_locate_gives_boxes_in_pixels_of_the_image(says):
    # bins of 32: x of 48 pixels, y of 40
    assert says.locate(make_sample().image, "red circle") == [Box(24, 10, 48, 30)]
    assert "the object described red circle located" in says.asked[0]


def test_locate_gives_nothing_where_the_model_sees_nothing(says):
    says.says = "There is no such object in the image."
    assert says.locate(make_sample().image, "blue square") == []


@pytest.mark.parametrize(
    ("location", "written"),
    [(Box(24, 10, 48, 30), "[16, 8, 32, 24] bbox"), (Point(24, 10), "[16, 8] point")],
)
def test_describe_asks_with_the_location_in_the_models_numbers(says, location, written):
    says.says = "There is a red circle."
    assert says.describe(make_sample().image, location) == "There is a red circle."
    assert f"located at {written}?" in says.asked[0]


def test_chat_takes_a_question_or_a_conversation(says):
    says.chat(make_sample().image, "Is there a blue square?")
    says.chat(make_sample().image, ask("Is there a blue square?"))
    says.chat(make_sample().image, [*dialogue(), *ask("Is there a blue square?")])
    says.chat(make_sample().image, [{"role": "user", "content": "Is there a blue square?"}])
    assert all(asked.endswith("Is there a blue square? ASSISTANT:") for asked in says.asked)


def test_several_images_are_asked_in_one_batch(model):
    images = [make_sample(color).image for color in ("red", "blue")]
    prompts = [model.prompt(image, "Is there a blue square?") for image in images]
    said = [model.chat(image, "Is there a blue square?", max_new_tokens=5) for image in images]
    assert model.generate(prompts, max_new_tokens=5) == said
    assert model.generate(prompts[:1], max_new_tokens=9)[0].startswith(said[0])
    assert model.generate(prompts[:1], max_new_tokens=9)[0] != said[0]


def test_describe_takes_plain_numbers_and_refuses_what_is_no_place(says):
    says.describe(make_sample().image, [24, 10])
    assert "located at [16, 8] point?" in says.asked[0]
    with pytest.raises(DataError, match="not in the image"):
        says.describe(make_sample().image, Box(24, 10, 480, 30))


def test_locate_refuses_an_empty_name(says):
    with pytest.raises(DataError, match="no name to look for"):
        says.locate(make_sample().image, " ")


def test_chat_refuses_a_conversation_without_a_question(says):
    with pytest.raises(DataError, match="does not end with a question"):
        says.chat(make_sample().image, [])


@pytest.mark.parametrize("method", ["locate", "chat"])
def test_asking_without_an_image_is_refused(says, method):
    with pytest.raises(DataError, match="no image was given"):
        getattr(says, method)(None, "red circle")


def test_a_real_model_answers_all_three(model):
    image = make_sample().image
    assert isinstance(model.locate(image, "red circle"), list)
    assert isinstance(model.describe(image, Point(3, 4)), str)
    assert isinstance(model.chat(image, "Where?"), str)


def test_build_lets_numbers_begin_alike_up_to_the_one_it_is_given():
    processor = make_processor()
    torch.manual_seed(0)
    model = LocVLM.build(
        TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER),
        Adapter,
        partial(fresh, options=LLAMA),
        processor,
        smooth_numbers=31,
    )
    table = model.language_model.get_input_embeddings().weight
    rows = {n: table[processor.tokenizer.convert_tokens_to_ids(str(n))] for n in (30, 31, 32)}
    near = torch.nn.functional.cosine_similarity
    assert near(rows[30], rows[31], dim=0) > 0.9 > near(rows[31], rows[32], dim=0)
