import sys
from functools import partial

import pytest
import torch
from torch import nn

from locvlm import LocVLM
from locvlm.data.collate import collate
from locvlm.errors import ConfigError
from locvlm.models.lora import add_lora, lora_parameters
from locvlm.models.quantization import dequantized, is_quantized, linear_layers, quantize
from tests.tiny import ask, dialogue, make_model, make_sample

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")

KINDS = ["4bit", "8bit"]


@pytest.fixture(params=KINDS)
def quantized(request):
    """A model as it is before and after its language model is quantized."""
    model = make_model(hidden_size=64)
    before = {name: layer.weight for name, layer in linear_layers(model.language_model).items()}
    return before, quantize(model, request.param).to("cpu")


def batch_of(model, *samples):
    examples = [model.processor.encode(sample, dialogue()) for sample in samples]
    return collate(examples, pad_id=model.processor.pad_id)


@pytest.mark.parametrize(("kind", "share", "bound"), [("4bit", 0.15, 0.1), ("8bit", 0.27, 0.01)])
def test_weights_get_small_and_stay_near(kind, share, bound):
    model = make_model(hidden_size=512, intermediate_size=512, num_hidden_layers=1)
    layer = model.language_model.model.layers[0].mlp.up_proj
    expected = layer.weight
    small = quantize(model, kind).to("cpu").language_model.model.layers[0].mlp.up_proj
    bits = [t for t in small.state_dict().values() if t.numel() > 1]
    assert sum(t.nbytes for t in bits) < share * expected.nbytes
    assert (dequantized(small) - expected).norm() < bound * expected.norm()


def test_all_linear_layers_but_the_head_are_quantized(quantized):
    _, model = quantized
    kept = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and not is_quantized(layer)
    ]
    encoder_and_adapter = [name for name in kept if not name.startswith("language_model.")]
    assert set(kept) - set(encoder_and_adapter) == {"language_model.lm_head"}
    assert sum(map(is_quantized, model.modules())) == 2 * 7


def test_dequantized_weights_are_those_that_it_computes_with(quantized):
    before, model = quantized
    for name, layer in linear_layers(model.language_model).items():
        vectors = torch.eye(layer.in_features)
        with torch.no_grad():
            computed = layer(vectors).T
        weight = dequantized(layer)
        assert (weight - before[name]).norm() < 0.12 * before[name].norm()
        assert (computed - weight).norm() < 0.02 * weight.norm()  # bfloat16, or 8-bit inputs


def test_biases_are_kept():
    model = make_model(architecture="qwen2", hidden_size=64)
    layers = model.language_model.model.layers
    layers[0].self_attn.q_proj.bias.data.normal_()
    bias = layers[0].self_attn.q_proj.bias.clone()
    quantize(model, "8bit")
    assert torch.equal(layers[0].self_attn.q_proj.bias, bias)


def test_an_answer_in_between_leaves_gradients_as_they_are(quantized):
    """On some CPUs bitsandbytes repacks 4-bit weights there, and gradients no longer pass them."""
    _, model = quantized
    weights = lora_parameters(add_lora(model, rank=4, alpha=8))
    for weight in weights.values():
        weight.data.normal_(std=0.1)
    batch = batch_of(model, make_sample())
    gradients = []
    for _ in range(2):
        model.train()(**batch).backward()
        gradients.append([weight.grad for weight in weights.values()])
        model.zero_grad()
        prompts = [model.processor.prompt(make_sample(), ask("Where?"))]
        model.eval().generate(prompts, max_new_tokens=2)
    assert all(torch.equal(*pair) and pair[0].any() for pair in zip(*gradients, strict=True))


def test_a_saved_model_has_floats_and_says_nearly_the_same(quantized, tmp_path):
    _, model = quantized
    model.save_pretrained(tmp_path / "model")
    loaded = LocVLM.from_pretrained(tmp_path / "model")
    assert not any(map(is_quantized, loaded.modules()))
    inputs = {
        key: value
        for key, value in batch_of(model, make_sample()).items()
        if key in ("input_ids", "pixel_values")
    }
    with torch.no_grad():
        ours, theirs = model.eval()(**inputs), loaded(**inputs)
    assert (ours - theirs).norm() < 0.05 * ours.norm()


def test_saved_weights_have_the_type_of_the_others(tmp_path):
    model = make_model(architecture="qwen2", hidden_size=64)
    model.language_model.bfloat16()
    quantize(model, "4bit").to("cpu").save_pretrained(tmp_path / "model")
    layer = LocVLM.from_pretrained(tmp_path / "model").language_model.model.layers[0]
    assert layer.self_attn.q_proj.weight.dtype == torch.bfloat16
    assert layer.self_attn.q_proj.bias.dtype == torch.bfloat16


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match=r"no quantization '3bit'(?s:.*)4bit, 8bit"):
        quantize(make_model(), "3bit")


def test_rows_that_share_a_block_are_refused_in_4_bits():
    with pytest.raises(ConfigError, match=r"inputs of width 32(?s:.*)widths that 64 divides"):
        quantize(make_model(hidden_size=32), "4bit")


@pytest.mark.parametrize(
    "make", [partial(add_lora, rank=2, alpha=4), partial(quantize, kind="8bit")]
)
def test_quantizing_beneath_lora_or_twice_is_refused(make):
    with pytest.raises(ConfigError, match=r"quantized or has LoRA already(?s:.*)quantize once"):
        quantize(make(make_model()), "8bit")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"bitsandbytes cannot be used(?s:.*)pip install"):
        quantize(make_model(), "8bit")


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_was_not_moved_yet_is_saved_as_it_was(kind, tmp_path):
    model = make_model(hidden_size=64)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantize(model, kind).save_pretrained(tmp_path / "model")
    after = LocVLM.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert model.language_model.model.layers[0].mlp.up_proj.weight.is_floating_point()
