from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.collate import collate, n_samples
from locvlm.data.packing import pack, pack_rows
from locvlm.types import Sample
from tests.tiny import ask, dialogue, make_model, make_processor, make_sample

PROCESSOR = make_processor()
EXAMPLES = [
    PROCESSOR.encode(sample, messages)
    for sample, messages in (
        (make_sample("red"), dialogue() * 9),
        (make_sample("blue"), dialogue()),
        (Sample("text", "test"), dialogue()[:1] + dialogue()[:1]),
        (make_sample("green"), dialogue() * 4),
        (make_sample("white"), dialogue() * 2),
        (Sample("talk", "test"), [*ask("Is there a blue square?"), *dialogue()[1:1]]),
        (make_sample("black"), dialogue() * 5),
    )
]
LENGTHS = [len(example["input_ids"]) for example in EXAMPLES]


def area(lengths, rows):
    return len(rows) * max(sum(lengths[index] for index in row) for row in rows)


def test_short_examples_share_rows_beside_the_longest():
    assert pack_rows([2000, 900, 1100, 1500, 500]) == [[0], [3, 4], [1, 2]]


def test_rows_are_few_where_padding_would_be_left_otherwise():
    assert pack_rows([2000, 1500]) == [[0, 1]]
    assert pack_rows([1000, 1000, 1000]) == [[0], [1], [2]]
    assert pack_rows([7]) == [[0]]


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=80))
def test_each_example_has_one_place_and_little_is_padding(lengths):
    rows = pack_rows(lengths)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(row and row == sorted(row) for row in rows)
    assert sum(lengths) >= 0.97 * area(lengths, rows)


def test_rows_of_a_usual_batch_are_hardly_longer_than_its_longest_example():
    rng = Random(0)
    lengths = [min(2048, 100 + round(rng.lognormvariate(5, 0.9))) for _ in range(64)]
    longest = max(sum(lengths[index] for index in row) for row in pack_rows(lengths))
    assert longest < 1.2 * max(lengths)


def test_a_packed_batch_holds_the_examples_one_after_the_other():
    batch = pack(EXAMPLES, PROCESSOR.pad_id)
    rows = pack_rows(LENGTHS)
    assert len(rows) < len(EXAMPLES)
    images = iter(batch["pixel_values"])
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            example, end = EXAMPLES[index], start + LENGTHS[index]
            assert batch["input_ids"][number, start:end].equal(example["input_ids"])
            assert batch["loss_weights"][number, start:end].equal(example["loss_weights"])
            assert batch["labels"][number, start + 1 : end].equal(example["labels"][1:])
            assert batch["position_ids"][number, start:end].tolist() == list(range(end - start))
            assert all(next(images).equal(image) for image in example["pixel_values"])
            start = end
        assert batch["attention_mask"][number].sum() == start
        assert (batch["input_ids"][number, start:] == PROCESSOR.pad_id).all()
        assert (batch["labels"][number, start:] == -100).all()
    assert next(images, None) is None


def test_an_example_does_not_learn_the_first_token_of_the_next():
    example = {**EXAMPLES[2], "labels": EXAMPLES[2]["input_ids"].clone()}
    batch = pack([example, example], PROCESSOR.pad_id)
    assert batch["input_ids"].shape[0] == 2
    long = {key: torch.cat([value, value]) for key, value in example.items()}
    batch = pack([long, example], PROCESSOR.pad_id)
    assert batch["labels"][0, len(long["labels"])] == -100


def test_samples_are_counted_in_packed_and_padded_batches():
    assert n_samples(pack(EXAMPLES, PROCESSOR.pad_id)) == len(EXAMPLES)
    assert n_samples(collate(EXAMPLES, PROCESSOR.pad_id)) == len(EXAMPLES)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "mistral"])
def test_loss_and_gradients_are_those_of_the_padded_batch(architecture, attention):
    model = make_model(PROCESSOR, architecture=architecture, attention=attention)
    losses, gradients = [], []
    for join in (collate, pack):
        model.zero_grad()
        loss = model(**join(EXAMPLES, PROCESSOR.pad_id))
        loss.backward()
        losses.append(loss.item())
        gradients.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradients[1][name], gradient, atol=1e-5), name


def test_what_stands_before_an_example_changes_nothing_in_it():
    model = make_model(PROCESSOR)
    packed = pack(EXAMPLES, PROCESSOR.pad_id)
    row = next(row for row in pack_rows(LENGTHS) if len(row) > 1)
    number = pack_rows(LENGTHS).index(row)
    logits = model(
        packed["input_ids"],
        pixel_values=packed["pixel_values"],
        position_ids=packed["position_ids"],
    )
    start = 0
    for index in row:
        alone = EXAMPLES[index]
        expected = model(alone["input_ids"][None], pixel_values=alone["pixel_values"])[0]
        end = start + LENGTHS[index]
        assert torch.allclose(logits[number, start:end], expected, atol=1e-4)
        start = end
