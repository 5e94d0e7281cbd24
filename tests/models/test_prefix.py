from functools import wraps

import pytest
import torch

from locvlm.models.generation import Sampling, asking, generate_ids
from locvlm.models.prefix import Read, read_prompts
from locvlm.types import Message, Sample
from tests.tiny import ask, dialogue, make_model, make_sample

RED, BLUE = make_sample("red"), make_sample("blue", (30, 90))
TEXTS = ["Where is the red circle?", "Is there?", "Where is the red square?", "Is there?"]


@pytest.fixture
def sharing(processor):
    """Prompts about images, in mixed order; those about one image share its pixels."""

    def make(*asked):
        images, prompts = {}, []
        for sample, messages in asked:
            prompt = processor.prompt(sample, messages, images.get(id(sample)))
            images[id(sample)] = prompt["pixel_values"]
            prompts.append(prompt)
        return prompts

    return make


@pytest.fixture
def mixed(sharing):
    return sharing(
        *((sample, ask(text)) for text in TEXTS for sample in (RED, BLUE)),
        (Sample("text", "test"), ask("Is there a blue square?")),
        (RED, [*dialogue(), *ask("Is it left?")]),
    )


def logits_of(model, prompts):
    """(B, V), in the order of the prompts."""
    with asking(model):
        state = read_prompts(model, prompts)
    order = [state.prompts.index(n) for n in range(len(prompts))]
    return state.logits.flatten(0, 1)[order]


def test_prompts_that_share_an_image_are_read_as_alone(model, mixed):
    alone = torch.cat([logits_of(model, [prompt]) for prompt in mixed])
    assert torch.allclose(logits_of(model, mixed), alone, atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "without masks"])
def test_they_get_the_answers_and_likelihoods_of_prompts_alone(
    processor, mixed, attention, architecture, monkeypatch
):
    if attention == "without masks":  # as flash attention, which is for GPUs
        monkeypatch.setattr("locvlm.models.prefix.is_flash", lambda model: True)
        attention = "sdpa"
    model = make_model(processor=processor, attention=attention, architecture=architecture)
    options = {"max_new_tokens": 40}
    alone = [model.generate([prompt], **options)[0] for prompt in mixed]
    assert model.generate(mixed, **options) == alone
    candidates = [["left.", "right of it."]] * len(mixed)
    expected = [model.score([prompt], [["left.", "right of it."]])[0] for prompt in mixed]
    for found, wanted in zip(model.score(mixed, candidates), expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-4)


def tokens_read(model, prompts, monkeypatch):
    """(images encoded, tokens that the language model reads) for some prompts."""
    images, tokens = [], []
    encode, forward = model.encode_images, model.language_model.forward

    @wraps(forward)
    def counted(*args, **kwargs):
        inputs = kwargs.get("input_ids", kwargs.get("inputs_embeds"))
        tokens.append(inputs.shape[0] * inputs.shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "encode_images", lambda x: images.append(len(x)) or encode(x))
    monkeypatch.setattr(model.language_model, "forward", counted)
    logits_of(model, prompts)
    return sum(images), sum(tokens)


def test_an_image_and_the_text_before_the_difference_are_read_once(
    model, processor, sharing, monkeypatch
):
    prompts = sharing(*[(RED, ask(f"Where is the {word}?")) for word in ("red", "blue", "cat")])
    lengths = [len(prompt["input_ids"]) for prompt in prompts]
    images, tokens = tokens_read(model, prompts, monkeypatch)
    assert images == 1
    assert tokens < max(lengths) + 3 * 20  # the image alone has 16 tokens in each prompt
    apart = [processor.prompt(RED, ask("Where is the red?")) for _ in range(3)]
    images, tokens = tokens_read(model, apart, monkeypatch)
    assert (images, tokens) == (3, 3 * len(apart[0]["input_ids"]))


def test_another_text_before_the_image_is_not_shared(model, processor, sharing):
    prompts = sharing((RED, ask("Is there?")), (RED, ask("Is there?")))
    other = processor.speaking(type(processor.chat)(system="A chat. "))
    prompts.append(other.prompt(RED, ask("Is there?"), prompts[0]["pixel_values"]))
    alone = torch.cat([logits_of(model, [prompt]) for prompt in prompts])
    assert torch.allclose(logits_of(model, prompts), alone, atol=1e-5)


def test_prompts_without_an_image_are_read_whole(model, processor):
    text = Sample("text", "test")
    prompts = [processor.prompt(text, [Message("user", (words,))]) for words in ("a", "b c")]
    assert logits_of(model, prompts).shape[0] == 2


def test_what_has_ended_makes_room_for_the_others(model, sharing, monkeypatch):
    prompts = sharing(*((sample, ask(text)) for text in TEXTS for sample in (RED, BLUE)))
    monkeypatch.setattr(model.processor, "end_id", -1)  # never said
    options = {"max_new_tokens": 40, "sampling": Sampling()}
    with asking(model):
        said = [generate_ids(model, [prompt], **options) for prompt in prompts]
    # A token that half of them say sooner than others, as if it were the end.
    ends = [
        sorted(ids.index(token) if token in ids else 40 for [ids] in said) for token in range(500)
    ]
    token = max(range(500), key=lambda n: ends[n][-1] - ends[n][len(ends[n]) // 2])
    assert ends[token][-1] > ends[token][4]
    monkeypatch.setattr(model.processor, "end_id", token)
    sizes, say = [], Read.say
    monkeypatch.setattr(
        Read, "say", lambda self, model, ids: sizes.append(len(ids)) or say(self, model, ids)
    )
    with asking(model):
        found = generate_ids(model, prompts, **options)
    assert found == [ids[: ids.index(token) if token in ids else 40] for [ids] in said]
    assert sizes[0] > sizes[-1]


def test_a_few_that_share_do_not_spread_the_others(model, processor, sharing):
    prompts = sharing(*((RED, ask(text)) for text in TEXTS))
    prompts += [processor.prompt(BLUE, ask("Is there?")) for _ in range(12)]
    with asking(model):
        assert read_prompts(model, prompts).lengths.shape == (16, 1)


def test_slots_are_dropped_where_whole_rows_or_slots_are_done(model, sharing):
    words = ("red", "blue", "cat", "dog")
    prompts = sharing(
        *((sample, ask(f"Is a {word} there?")) for word in words for sample in (RED, BLUE))
    )
    with asking(model):
        state = read_prompts(model, prompts)
        assert state.prompts == [0, 2, 4, 6, 1, 3, 5, 7]
        assert state.keep([0, 1, 4]) == [0, 1, 4, 5]
        assert state.prompts == [0, 2, 1, 3]
        assert state.keep([1, 2]) == [1, 2]
        assert state.prompts == [2, 1]
        assert state.lengths.shape == (2, 1)
        state.say(model, torch.tensor([5, 6], device=model.device))
        wanted = []
        for prompt, token in ((prompts[2], 5), (prompts[1], 6)):
            ids = torch.cat([prompt["input_ids"], torch.tensor([token])])
            wanted.append(model(ids[None], pixel_values=prompt["pixel_values"])[0, -1])
    assert torch.allclose(state.logits[:, 0], torch.stack(wanted), atol=1e-5)
