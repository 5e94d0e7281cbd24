from dataclasses import replace

import pytest
import torch

from locvlm.errors import ConfigError, DataError
from locvlm.models import generation
from locvlm.models.generation import Sampling, stream
from locvlm.types import Message, Sample
from tests.tiny import ask, dialogue, make_model, make_sample

TEXT = Sample("text", "test")
QUESTIONS = [
    (make_sample("red"), ask("Where is the red circle?")),
    (TEXT, ask("Is there?")),
    (make_sample("blue", (30, 90)), ask("Describe the object located at left right left?")),
    (TEXT, ask("Is there a blue square in the image? Yes. No. Is there such?")),
    (make_sample("green"), [*dialogue(), *ask("Is it left?")]),
    (make_sample("red"), ask("Where is the red circle?")),
]


@pytest.fixture(scope="module")
def prompts(processor):
    return [processor.prompt(sample, messages) for sample, messages in QUESTIONS]


def said_without_cache(model, prompt, n_tokens):
    """Greedy decoding by hand: the whole sequence again for each token."""
    ids, said = prompt["input_ids"][None], []
    for _ in range(n_tokens):
        logits = model(ids, pixel_values=prompt["pixel_values"])[0, -1]
        logits[model.image_token_id] = -torch.inf
        token = int(logits.argmax())
        if token == model.processor.end_id:
            break
        said.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return model.processor.generated_text(said)


def test_greedy_text_is_that_of_decoding_without_a_cache(model, prompts):
    expected = [said_without_cache(model, prompt, 12) for prompt in prompts]
    assert model.generate(prompts, max_new_tokens=12) == expected
    assert len(set(expected)) > 3  # the prompts do make a difference


def test_a_stream_says_the_same_in_pieces(model, prompts):
    whole = model.generate(prompts, max_new_tokens=12)
    for prompt, text in zip(prompts, whole, strict=True):
        pieces = list(stream(model, prompt, max_new_tokens=12))
        assert "".join(pieces) == text
        assert len(pieces) > 3 or len(text) < 10
        assert all(pieces)


def test_a_stream_leaves_mode_and_gradients_to_whoever_reads_it(processor, prompts):
    model = make_model(processor).train()
    for _ in stream(model, prompts[0], max_new_tokens=4):
        assert model.language_model.training
        assert torch.is_grad_enabled()


def test_a_character_of_several_tokens_is_streamed_whole(model, prompts, monkeypatch):
    ids = model.processor.tokenizer("é – ü", add_special_tokens=False).input_ids
    steps = ([(0, token)] for token in ids)
    monkeypatch.setattr(generation, "_steps", lambda *given: steps)
    pieces = list(stream(model, prompts[0]))
    assert "".join(pieces) == "é – ü"
    assert len(ids) > len(pieces) > 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_batch_says_the_same_as_its_prompts_one_by_one(processor, prompts, attention):
    model = make_model(processor)
    model.language_model.set_attn_implementation(attention)
    alone = [model.generate([prompt], max_new_tokens=12)[0] for prompt in prompts]
    assert model.generate(prompts, max_new_tokens=12) == alone
    assert model.generate(prompts[::-1], max_new_tokens=12) == alone[::-1]


def test_answers_end_at_the_end_token_while_others_go_on(processor, prompts):
    model = make_model(processor)
    # The end token becomes likely, so that answers end at different lengths.
    model.language_model.lm_head.weight.data[processor.end_id] *= 2.5
    texts = model.generate(prompts, max_new_tokens=40)
    assert texts == [said_without_cache(model, prompt, 40) for prompt in prompts]
    lengths = {len(processor.tokenizer(text).input_ids) for text in texts}
    assert len(lengths) > 2
    assert min(lengths) < 20


def test_the_number_of_new_tokens_is_bounded(model, processor, prompts):
    ids = processor.tokenizer(model.generate(prompts[:1], max_new_tokens=3)[0]).input_ids
    assert len(ids) <= 1 + 3 * 3  # bytes of one token may be tokenized apart


def test_no_prompts_give_no_texts(model):
    assert model.generate([]) == []
    assert model.score([], []) == []


def test_the_image_token_is_never_said(processor, prompts):
    model = make_model(processor)
    model.language_model.lm_head.weight.data[processor.image_token_id] *= 100
    texts = model.generate(prompts, max_new_tokens=6)
    assert texts == [said_without_cache(model, prompt, 6) for prompt in prompts]


def test_sampling_repeats_with_the_same_generator(model, prompts):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(prompts, max_new_tokens=8, temperature=1.0, generator=generator)

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)


def test_a_small_top_p_is_greedy(model, prompts):
    drawn = model.generate(prompts, max_new_tokens=8, temperature=1.0, top_p=1e-6)
    assert drawn == model.generate(prompts, max_new_tokens=8)


def test_drawn_tokens_follow_temperature_and_top_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20_000, 4)
    generator = torch.Generator().manual_seed(0)

    def shares(**options):
        tokens = Sampling(generator=generator, **options)(logits)
        return torch.bincount(tokens, minlength=4) / len(tokens)

    assert shares(temperature=1.0) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)
    assert shares(temperature=1.0, top_p=0.7) == pytest.approx([0.625, 0.375, 0, 0], abs=0.02)
    squared = torch.tensor([0.25, 0.09, 0.0225, 0.0025]) / 0.365
    assert shares(temperature=0.5) == pytest.approx(squared, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"temperature": float("nan")}, "temperature must be 0 or more"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.5}, "at most 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1"),
    ],
)
def test_refuses_sampling_that_cannot_be(model, prompts, options, message):
    with pytest.raises(ConfigError, match=message):
        model.generate(prompts, **options)


def test_a_prompt_longer_than_the_model_reads_is_refused(model, processor):
    long = {
        "input_ids": torch.ones(513, dtype=torch.long),
        "pixel_values": torch.zeros(0, 3, 32, 32),
    }
    with pytest.raises(DataError, match="a prompt of 513 tokens, the language model reads 512"):
        model.generate([long])


def test_a_prompt_whose_image_is_missing_is_refused(model, prompts):
    broken = {"input_ids": prompts[0]["input_ids"], "pixel_values": torch.zeros(0, 3, 32, 32)}
    with pytest.raises(DataError, match="16 image tokens for 0 images"):
        model.generate([broken])


CANDIDATES = [["left", "right"], ["Yes."], ["It is located at [1, 2, 3, 4] bbox.", "No."]]


def likelihoods_by_hand(model, sample, messages, candidates):
    """From the loss of each whole conversation."""
    values = []
    for text in candidates:
        context = [replace(message, weight=0.0) for message in messages]
        answer = Message("assistant", (text,))
        example = model.processor.encode(sample, [*context, answer])
        n_tokens = int((example["labels"] != -100).sum())
        loss = model(
            example["input_ids"][None],
            labels=example["labels"][None],
            pixel_values=example["pixel_values"],
        )
        values.append(-loss.item() * n_tokens)
    return values


def test_scores_are_the_log_likelihoods_of_answer_and_end(model, prompts):
    scores = model.score(prompts[:3], CANDIDATES)
    for (sample, messages), own, candidates in zip(QUESTIONS, scores, CANDIDATES, strict=False):
        expected = likelihoods_by_hand(model, sample, messages, candidates)
        assert own == pytest.approx(expected, rel=1e-4)


def test_scores_do_not_depend_on_the_batch(model, prompts):
    together = model.score(prompts[:3], CANDIDATES)
    for prompt, candidates, own in zip(prompts, CANDIDATES, together, strict=False):
        assert model.score([prompt], [candidates])[0] == pytest.approx(own, rel=1e-4)


def test_a_prompt_may_have_no_candidates(model, prompts):
    assert model.score(prompts[:2], [[], []]) == [[], []]
    first, second = model.score(prompts[:2], [[], ["Yes."]])
    assert (first, len(second)) == ([], 1)


def test_asking_leaves_a_model_in_training_as_it_was(processor, prompts):
    model = make_model(processor).train()
    model.generate(prompts[:1], max_new_tokens=1)
    model.score(prompts[:1], [["Yes."]])
    assert model.training
    assert model.language_model.training
    assert model(**_batch(processor)).requires_grad


def _batch(processor):
    example = processor.encode(make_sample(), dialogue())
    return {k: v if k == "pixel_values" else v[None] for k, v in example.items()}
