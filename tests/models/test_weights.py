from functools import partial

import pytest
import torch
from torch import nn

from locvlm import LocVLMModule
from locvlm.errors import CheckpointError
from locvlm.models.weights import fill, own_tensors
from locvlm.training import adamw
from tests.tiny import make_model

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def test_a_model_gets_weights_in_the_type_that_they_have():
    layer = nn.Linear(3, 2)
    fill(own_tensors(layer), TENSORS | {"weight": TENSORS["weight"].half()}, "here")
    assert torch.equal(layer.weight, TENSORS["weight"].half())
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float16, torch.float32)


def test_all_differences_are_named():
    found = {"weight": torch.zeros(3, 3), "scale": torch.tensor(1.0)}
    with pytest.raises(CheckpointError) as error:
        fill(own_tensors(nn.Linear(3, 2)), found, "there")
    for line in ("missing: bias 2", "unknown: scale scalar", "weight is 3x3, the model's is 2x3"):
        assert line in str(error.value)
    assert "where: there" in str(error.value)


def test_tied_tensors_are_listed_once():
    pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    pair[1].weight = pair[0].weight
    assert list(own_tensors(pair)) == ["0.weight", "0.bias", "1.bias"]


def test_rotary_frequencies_stay_exact_in_other_types():
    model = make_model()
    rotary = model.language_model.model.rotary_emb
    expected = rotary.inv_freq.clone()
    # As Lightning converts what it trains in bf16-true.
    module = LocVLMModule(model, partial(adamw, lr=1e-3)).to(torch.bfloat16)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
    assert torch.equal(rotary.inv_freq, expected)
    assert module.to("meta").model.language_model.model.rotary_emb.inv_freq.is_meta
