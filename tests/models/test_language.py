import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

from locvlm.errors import CheckpointError, ConfigError
from locvlm.models import loss
from locvlm.models.language import (
    PLAIN_HEADS,
    fresh,
    fresh_arguments,
    init_numbers,
    next_token_loss,
    pretrained,
)
from locvlm.models.layout import find_layout
from locvlm.processor import IGNORE_INDEX
from tests.tiny import LLAMA


def test_fresh_builds_any_architecture_of_transformers():
    model = fresh("qwen2", options=LLAMA, vocab_size=50, dtype="bfloat16")
    assert type(model).__name__ == "Qwen2ForCausalLM"
    assert model.get_input_embeddings().weight.shape == (50, 32)
    assert model.dtype == torch.bfloat16


def test_the_way_attention_is_computed_is_an_option():
    ids = torch.arange(12)[None]
    results = []
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        model = fresh(attention=attention, options=LLAMA, vocab_size=50)
        assert model.config._attn_implementation == attention
        results.append(model(input_ids=ids).logits)
    assert torch.allclose(*results, atol=1e-4)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(ConfigError, match="no architecture 'lama'"):
        fresh("lama")


def test_an_unknown_option_is_refused():
    with pytest.raises(ConfigError, match="llama takes no hiden_size"):
        fresh(options={"hiden_size": 32})


@pytest.mark.parametrize("attention", ["sdpaa", "flash_attention_2"])
def test_attention_that_this_machine_does_not_have_is_refused(attention):
    with pytest.raises(ConfigError, match=f"cannot be built with attention {attention}"):
        fresh(options=LLAMA, attention=attention)


def test_pretrained_loads_a_local_folder(tmp_path):
    model = fresh(options=LLAMA, vocab_size=50)
    model.save_pretrained(tmp_path)
    loaded = pretrained(str(tmp_path), vocab_size=50)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)


def test_a_smaller_vocabulary_than_the_tokenizers_is_refused(tmp_path):
    fresh(options=LLAMA, vocab_size=50).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="writes 51 token ids, the language model knows 50"):
        pretrained(str(tmp_path), vocab_size=51)


def test_missing_weights_are_refused(tmp_path):
    fresh(options=LLAMA | {"num_hidden_layers": 1}, vocab_size=50).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(
        config.read_text().replace('"num_hidden_layers": 1', '"num_hidden_layers": 2')
    )
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights, such as model.layers.1"):
        pretrained(str(tmp_path))


def test_a_model_that_cannot_be_downloaded_says_how_to_bring_it():
    with pytest.raises(CheckpointError, match=r"(?s)nobody/nothing cannot be loaded.*hf download"):
        pretrained("nobody/nothing")


def losses(model, inputs, labels, weights):
    """The loss, and that of all logits."""
    layout = find_layout(labels, image_token_id=-1, labels=labels)
    found = next_token_loss(model, inputs, layout, labels, weights)
    logits = model(inputs_embeds=inputs, use_cache=False).logits[:, :-1].float()
    each = F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")
    counts = weights[:, 1:] * (labels[:, 1:] != IGNORE_INDEX)
    return found, (each * counts).sum() / counts.sum()


@pytest.mark.parametrize("architecture", [*sorted(PLAIN_HEADS), "gemma2", "cohere"])
@pytest.mark.parametrize("at_once", [loss.AT_ONCE, 150])
def test_the_loss_is_that_of_all_logits_however_many_are_held(architecture, at_once, monkeypatch):
    monkeypatch.setattr(loss, "AT_ONCE", at_once)
    model = fresh(architecture, options=LLAMA | {"pad_token_id": 0}, vocab_size=50).eval()
    inputs = torch.randn(2, 9, 32)
    labels = torch.randint(50, (2, 9)).masked_fill(torch.rand(2, 9) < 0.2, IGNORE_INDEX)
    found, expected = losses(model, inputs, labels, torch.rand(2, 9))
    torch.testing.assert_close(found, expected)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    wanted = torch.autograd.grad(expected, weights, allow_unused=True)
    gradients = torch.autograd.grad(found, weights, allow_unused=True)
    torch.testing.assert_close(gradients, wanted)
    assert model(inputs_embeds=inputs).logits.shape == (2, 9, 50)  # nothing is left behind


def test_its_arguments_build_it_again():
    model = fresh("qwen2", options=LLAMA | {"tie_word_embeddings": True}, vocab_size=50)
    arguments = fresh_arguments(model)
    again = fresh(**arguments)
    assert fresh_arguments(again) == arguments
    again.load_state_dict(model.state_dict())
    assert isinstance(again, type(model))


def test_arguments_of_a_published_model_leave_foreign_keys_out(tmp_path):
    fresh(options=LLAMA, vocab_size=50).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("{", '{"max_sequence_length": 2048,', 1))
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "max_sequence_length" in model.config.to_dict()
    fresh(**fresh_arguments(model))


@pytest.mark.parametrize("tied", [False, True])
def test_unit_init_gives_a_narrow_model_words_of_unit_size_and_quiet_layers(tied):
    torch.manual_seed(0)
    options = LLAMA | {"tie_word_embeddings": tied}
    model = fresh(options=options, vocab_size=500, unit_init=True)
    assert model.model.embed_tokens.weight.std().item() == pytest.approx(1, abs=0.02)
    layer = model.model.layers[0]
    assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(32**-0.5, rel=0.1)
    assert layer.mlp.down_proj.weight.abs().sum() == 0
    ids = torch.arange(12)[None]
    hidden = model.model(input_ids=ids).last_hidden_state
    assert torch.allclose(hidden, model.model.norm(model.model.embed_tokens(ids)))


@pytest.mark.parametrize("tied", [False, True])
def test_numbers_begin_alike_where_they_are_near_each_other(tied):
    torch.manual_seed(0)
    options = LLAMA | {"hidden_size": 256, "tie_word_embeddings": tied}
    model = fresh(options=options, vocab_size=200, unit_init=True)
    words = model.get_input_embeddings().weight[150:].clone()
    init_numbers(model, {number: [number] for number in range(101)})
    read = model.get_input_embeddings().weight.detach()
    alike = torch.nn.functional.cosine_similarity(read[50], read[:101])
    assert alike[50] == pytest.approx(1, abs=1e-5)
    assert alike[[49, 51]].min() > 0.97
    assert 0.4 < alike[[40, 60]].mean() < 0.8  # one tenth of the range: exp(-1/2)
    assert alike[[0, 100]].abs().max() < 0.3
    assert read[:101].std().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(read[150:], words)
    written = model.get_output_embeddings().weight.detach()
    assert torch.allclose(written[:101], read[:101] * (1 if tied else 0.05))


def test_a_tokenizer_without_numbers_leaves_the_weights_alone():
    model = fresh(options=LLAMA, vocab_size=20)
    before = model.get_input_embeddings().weight.clone()
    init_numbers(model, {})
    assert torch.equal(model.get_input_embeddings().weight, before)
