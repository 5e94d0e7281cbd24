import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from locvlm.models.drawn import Drawn, changing, drawing_later

# Each draws in another way: most of transformers' do as the first one.
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 99}
ARCHITECTURES = {
    "llama": {"num_key_value_heads": 1},
    "gpt2": {},  # scales what writes into the residual stream, by the names of its parts
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 64},  # empties the row of its padding
    "gpt_neox": {},
    "mixtral": {"num_local_experts": 2, "num_key_value_heads": 1},  # experts in one tensor
}


class Layer(nn.Module):
    """Draws in every way that there is."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.arange(6.0))
        self.table = nn.Embedding(5, 3, padding_idx=2)
        self.cut = nn.Parameter(torch.empty(4, 3), requires_grad=False)
        nn.init.kaiming_uniform_(self.cut)
        self.head = nn.Linear(3, 5)
        nn.init.normal_(self.head.weight[1:3], mean=7.0)
        self.head.bias.data.fill_(2.0)
        self.tied = nn.Linear(3, 5, bias=False)
        self.tied.weight = self.table.weight


def build(make, seed=0):
    torch.manual_seed(seed)
    with drawing_later():
        later = make()
    after = torch.get_rng_state()
    torch.manual_seed(seed)
    whole = make()
    assert torch.equal(torch.get_rng_state(), after)
    return later, whole


def check_same(later, whole):
    parameters = dict(whole.named_parameters(remove_duplicate=False))
    assert parameters
    before = torch.get_rng_state()
    for name, parameter in later.named_parameters(remove_duplicate=False):
        assert parameter.is_meta
        assert parameter.requires_grad == parameters[name].requires_grad
        found = parameter.found
        assert (found.shape, found.dtype) == (parameter.shape, parameter.dtype)
        assert torch.equal(found.read(), parameters[name]), name
        assert torch.equal(found.read(slice(1, 3)), parameters[name][1:3]), name
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_drawn_later_is_what_would_have_been_drawn():
    later, whole = build(Layer)
    check_same(later, whole)
    assert later.tied.weight is later.table.weight
    assert not torch.equal(later.cut.found.read(), build(Layer, seed=1)[1].cut)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_so_it_is_in_models_of_transformers(architecture, dtype):
    options = SIZES | {"pad_token_id": 1} | ARCHITECTURES[architecture]
    config = CONFIG_MAPPING[architecture]
    check_same(*build(lambda: AutoModelForCausalLM.from_config(config(**options), dtype=dtype)))


def test_values_that_are_replaced_are_not_drawn():
    later, _ = build(lambda: nn.Linear(3, 5))
    with changing(later):
        later.weight.data.normal_()
    assert len(later.weight.found.steps) == 1
    assert later.weight.found.first is None


def test_changes_come_after_the_draws():
    later, whole = build(Layer)
    for layer in (later, whole):
        torch.manual_seed(3)
        with torch.no_grad(), changing(layer):
            layer.table.weight[1] = torch.ones(3)
            layer.head.weight.mul_(2)
            layer.cut[2:].uniform_()
    check_same(later, whole)


def test_models_with_values_change_at_once():
    _, whole = build(Layer)
    with torch.no_grad(), changing(whole):
        whole.scale.zero_()
    assert not whole.scale.any()


def test_no_parameter_stays_without_memory_afterwards():
    build(Layer)
    assert not nn.Linear(2, 2).weight.is_meta


def test_draws_that_torch_leaves_out_without_memory_are_not_left_out_in_silence():
    def make():
        nn.init.trunc_normal_(nn.Linear(3, 5).weight)

    with pytest.raises(RuntimeError, match="does nothing without memory"):
        build(make)
    assert not nn.Linear(2, 2).weight.is_meta


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.scale.add_(layer.scale),
        lambda layer: (layer.scale * 2).zero_(),
        lambda layer: layer.scale.zero_() if layer.scale.sum() > 0 else None,
    ],
    ids=["of-others", "of-a-copy", "by-its-values"],
)
def test_values_that_are_not_there_cannot_be_asked_for(change):
    later, _ = build(Layer)
    with torch.no_grad(), pytest.raises(RuntimeError), changing(later):
        change(later)


def test_first_values_are_those_before_any_step():
    found = Drawn(torch.Size([3]), torch.float32, torch.arange(3.0))
    found.read().zero_()
    assert found.read().tolist() == [0, 1, 2]


def test_weights_that_are_never_drawn_may_be_changed_to_anything():
    with torch.device("meta"):
        layer = nn.Linear(2, 2)
        with torch.no_grad(), changing(layer):
            layer.weight[0] = torch.ones(2)
    assert layer.weight.is_meta
