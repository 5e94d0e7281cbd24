import json

import pytest
import torch
from peft import PeftModel
from torch import nn

from locvlm import LocVLM
from locvlm.errors import CheckpointError, ConfigError
from locvlm.models.checkpoint import load_weights
from locvlm.models.language import fresh
from locvlm.models.lora import add_lora, fingerprint, has_lora, lora_parameters, merged
from locvlm.models.weights import own_tensors
from tests.tiny import ask, make_model, make_sample


def make_lora(rank=4, alpha=8, *, drawn=True, **options):
    """A model with LoRA that says something else than without it, as after training."""
    dropout = options.pop("dropout", 0.0)
    targets = options.pop("targets", None)
    model = add_lora(
        make_model(**options), rank=rank, alpha=alpha, dropout=dropout, targets=targets
    )
    if drawn:
        torch.manual_seed(1)
        for weight in lora_parameters(model).values():
            weight.data.normal_(std=0.1)
    return model


@torch.no_grad()
def logits(model):
    prompt = model.processor.prompt(make_sample(), ask("Where is the red circle?"))
    return model(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])


def near(one, other):
    return (one - other).abs().max() <= 1e-5 * max(1, one.abs().max())


def test_a_layer_adds_alpha_over_rank_times_b_a_x():
    plain = make_model().language_model.model.layers[0].mlp.up_proj
    layer = make_lora(rank=4, alpha=12).language_model.model.layers[0].mlp.up_proj
    x = torch.randn(5, 32)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape, b.shape) == ((4, 32), (64, 4))
    assert torch.allclose(layer(x), plain(x) + 3 * x @ a.T @ b.T, atol=1e-5)


def test_a_model_says_the_same_until_lora_has_learned():
    assert torch.equal(logits(make_lora(drawn=False)), logits(make_model()))
    assert not near(logits(make_lora()), logits(make_model()))


def test_all_linear_layers_of_the_language_model_but_its_head_get_lora():
    names = {name.partition(".lora_")[0] for name in lora_parameters(make_lora())}
    expected = {
        f"language_model.{name}"
        for name, layer in make_model().language_model.named_modules()
        if isinstance(layer, nn.Linear) and name != "lm_head"
    }
    assert names == expected
    assert len(names) == 2 * 7


def test_targets_choose_layers_by_the_last_part_of_their_names():
    names = lora_parameters(make_lora(targets=["q_proj", "v_proj"]))
    assert {name.split(".")[-4] for name in names} == {"q_proj", "v_proj"}
    assert len(names) == 2 * 2 * 2


def test_lora_is_float32_beside_weights_of_any_type():
    model = make_model()
    model.language_model.bfloat16()
    add_lora(model, rank=2, alpha=4)
    assert {weight.dtype for weight in lora_parameters(model).values()} == {torch.float32}
    assert model.language_model.dtype == torch.bfloat16


def test_dropout_is_active_in_training_only():
    model = make_lora(dropout=0.5)
    assert torch.equal(logits(model), logits(model))
    model.train()
    assert not torch.equal(logits(model), logits(model))


@pytest.mark.parametrize("options", [{}, {"architecture": "qwen2", "tie_word_embeddings": True}])
def test_merged_weights_say_the_same_and_the_model_is_left_as_it_is(options):
    model, plain = make_lora(**options), make_model(seed=5, **options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = dict(merged(model, own_tensors(model)))
    assert weights.keys() == own_tensors(plain).keys()
    plain.load_state_dict(weights, strict=False)
    assert near(logits(plain), logits(model))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_saved_model_knows_nothing_of_lora_and_says_the_same(tmp_path):
    model = make_lora()
    model.save_pretrained(tmp_path / "model")
    loaded = LocVLM.from_pretrained(tmp_path / "model")
    assert not has_lora(loaded)
    assert near(logits(loaded), logits(model))


def test_peft_reads_the_lora_folder(tmp_path):
    model = make_lora()
    model.save_pretrained(tmp_path / "model")
    base = make_model().language_model
    theirs = PeftModel.from_pretrained(base, tmp_path / "model" / "lora").eval()
    ids = torch.arange(9)[None]
    with torch.no_grad():
        assert near(theirs(input_ids=ids).logits, model.language_model(input_ids=ids).logits)
    config = json.loads((tmp_path / "model" / "lora" / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"], config["task_type"]) == (4, 8, "CAUSAL_LM")


def test_whoever_may_read_the_config_may_read_the_lora_weights(tmp_path):
    make_lora().save_pretrained(tmp_path / "model")
    weights = tmp_path / "model" / "lora" / "adapter_model.safetensors"
    assert weights.stat().st_mode == (tmp_path / "model" / "config.json").stat().st_mode


def test_a_model_without_lora_has_no_lora_folder(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model" / "lora").exists()
    assert "fixed" not in json.loads((tmp_path / "model" / "config.json").read_text())


def test_a_model_with_lora_gets_its_weights_back_bit_by_bit(tmp_path):
    model, other = make_lora(), make_lora(drawn=False)
    model.adapter.net[0].weight.data.normal_()
    model.save_pretrained(tmp_path / "model")
    load_weights(other, tmp_path / "model")
    for (name, ours), theirs in zip(
        model.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_lora_of_another_language_model_is_refused(tmp_path):
    make_lora().save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match="trained on another language model"):
        load_weights(make_lora(seed=3), tmp_path / "model")


def test_lora_of_another_rank_is_refused(tmp_path):
    make_lora(rank=4).save_pretrained(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"q_proj.lora_A.default.weight is 4x32(?s:.*)2x32"):
        load_weights(make_lora(rank=2), tmp_path / "model")


def test_the_fingerprint_looks_beneath_lora_at_the_language_model_alone():
    expected = fingerprint(make_lora(rank=4))
    other = make_lora(rank=2, dropout=0.5)
    other.adapter.net[0].weight.data.normal_()
    assert fingerprint(other) == expected
    assert fingerprint(make_lora(seed=3)) != expected
    assert fingerprint(make_lora(targets=["q_proj"])) != expected
    narrow = make_lora()
    narrow.language_model.bfloat16()
    assert fingerprint(narrow) == expected


def test_rank_0_is_refused():
    with pytest.raises(ConfigError, match="rank must be at least 1, got 0"):
        add_lora(make_model(), rank=0, alpha=1)


@pytest.mark.parametrize(
    ("targets", "message"), [(["q_proj", "k_porj"], "named k_porj"), ([], "no target is named")]
)
def test_targets_that_match_nothing_are_refused(targets, message):
    with pytest.raises(ConfigError, match=rf"{message}(?s:.*)choose from (.*)k_proj, o_proj"):
        add_lora(make_model(), rank=2, alpha=4, targets=targets)


def test_lora_twice_is_refused():
    with pytest.raises(ConfigError, match="LoRA in this model already"):
        add_lora(make_lora(), rank=2, alpha=4)


@pytest.mark.parametrize("targets", [None, ["c_attn"]])
def test_a_language_model_without_linear_layers_is_told_of(targets):
    model = make_model()
    model.language_model = fresh("gpt2", options={"n_embd": 32, "n_layer": 1, "n_head": 2})
    with pytest.raises(ConfigError) as error:
        add_lora(model, rank=2, alpha=4, targets=targets)
    for part in ("of the kind gpt2", "its c_attn, c_fc, c_proj are Conv1D", "without lora"):
        assert part in str(error.value)
