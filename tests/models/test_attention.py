from functools import partial

import pytest
import torch
import torch.nn.functional as F
from transformers import modeling_flash_attention_utils as flash

from locvlm.data.collate import collate
from locvlm.data.packing import pack
from locvlm.errors import ConfigError
from locvlm.models import attention
from locvlm.models.attention import NAME
from locvlm.models.language import fresh
from locvlm.models.layout import find_layout
from locvlm.types import Message
from tests.tiny import LLAMA, dialogue, make_model, make_sample


@pytest.fixture(scope="module")
def examples(processor):
    """Lengths far enough apart that several share a row, and one row ends in padding."""
    words = ("red", "left " * 40, "blue " * 9, "right " * 25, "red " * 3)
    return [
        processor.encode(make_sample(), [*dialogue(), Message("assistant", (text,))])
        for text in words
    ]


def loss_and_gradients(model, batch):
    model.zero_grad()
    loss = model(**batch)
    loss.backward()
    return loss.detach(), {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_rows_learn_what_padded_ones_learn(processor, examples, architecture, checkpointing):
    model = make_model(processor=processor, architecture=architecture)
    assert model.language_model.config._attn_implementation == NAME
    if checkpointing:
        model.language_model.gradient_checkpointing_enable()
    model.train()
    packed = pack(examples, processor.pad_id)
    assert len(packed["input_ids"]) < len(examples)
    expected, wanted = loss_and_gradients(model, collate(examples, processor.pad_id))
    loss, found = loss_and_gradients(model, packed)
    assert torch.allclose(loss, expected, atol=1e-5)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-4), name


def varlen(query, key, value, cu_seqlens_q, cu_seqlens_k, **_):
    """What FlashAttention computes of (T, H, d) heads, for it runs on GPUs only."""
    assert cu_seqlens_q.dtype == torch.int32
    parts = [heads.split(cu_seqlens_k.diff().tolist()) for heads in (query, key, value)]
    seen = [
        F.scaled_dot_product_attention(*(part.transpose(0, 1) for part in three), is_causal=True)
        for three in zip(*parts, strict=True)
    ]
    return torch.cat(seen, dim=1).transpose(0, 1)


def test_flash_attention_stays_inside_the_examples_of_all_rows(processor, examples, monkeypatch):
    model = make_model(processor=processor)
    batch = pack([*examples, *examples], processor.pad_id)
    assert 1 < len(batch["input_ids"]) < len(examples)
    expected, wanted = loss_and_gradients(model, batch)
    functions = ((None, varlen, None, None, None), (lambda **kwargs: {}, None))
    monkeypatch.setattr(flash, "lazy_import_flash_attention", lambda *_: functions)
    model.language_model.config._attn_implementation = "flash_attention_2"
    loss, found = loss_and_gradients(model, batch)
    assert torch.allclose(loss, expected, atol=1e-5)
    for name, gradient in wanted.items():
        assert torch.allclose(found[name], gradient, atol=1e-4), name


def test_no_example_is_compared_with_another(processor, examples, monkeypatch):
    model = make_model(processor=processor)
    seen, whole = [], attention._whole

    def counted(module, query, key, value, mask, **kwargs):
        seen.append((query.shape[2], mask))
        return whole(module, query, key, value, mask, **kwargs)

    monkeypatch.setattr(attention, "_whole", counted)
    packed = pack(examples, processor.pad_id)
    model(**packed)
    n_layers = model.language_model.config.num_hidden_layers
    lengths = sorted(len(example["input_ids"]) for example in examples)
    found = sorted(length for length, _ in seen[: len(seen) // n_layers])
    n_padding = int((~packed["attention_mask"]).sum(1).count_nonzero())
    assert len(found) == len(lengths) + n_padding
    assert set(lengths) <= set(found)
    assert all(mask is None for _, mask in seen)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}),
    ],
)
def test_layers_that_look_back_a_limited_way_keep_their_masks(architecture, options):
    model = fresh(architecture, options=LLAMA | options, vocab_size=50)
    assert model.config._attn_implementation == "sdpa"


def test_what_is_chosen_by_name_is_kept():
    for name in ("sdpa", "eager"):
        model = fresh("llama", options=LLAMA, vocab_size=50, attention=name)
        assert model.config._attn_implementation == name


def test_an_attention_that_is_not_told_where_examples_begin_is_refused(processor, examples):
    model = make_model(processor=processor).language_model
    heads = torch.zeros(1, 2, 6, 4)
    call = partial(attention._attention, torch.nn.Identity(), heads, heads, heads, None)
    batch = pack(examples, processor.pad_id)
    layout = find_layout(batch["input_ids"], 0, position_ids=batch["position_ids"])
    with (
        attention.laid_out(model, layout, heads[0]),
        pytest.raises(ConfigError, match="where examples begin"),
    ):
        call()
    call()
