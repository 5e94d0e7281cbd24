import pytest
import torch
from torch import nn

from locvlm.errors import ConfigError
from locvlm.models import Adapter


def test_one_layer_is_a_linear_map():
    adapter = Adapter(6, 10)
    features = torch.randn(2, 4, 6)
    linear = adapter.net[0]
    assert torch.equal(adapter(features), features @ linear.weight.T + linear.bias)


def test_two_layers_have_a_gelu_between():
    assert [type(layer) for layer in Adapter(6, 10, layers=2).net] == [
        nn.Linear,
        nn.GELU,
        nn.Linear,
    ]
    assert Adapter(6, 10, layers=2)(torch.zeros(2, 4, 6)).shape == (2, 4, 10)


def test_its_config_builds_it_again():
    adapter = Adapter(6, 10, layers=2)
    assert str(Adapter(**adapter.config())) == str(adapter)


def test_refuses_three_layers():
    with pytest.raises(ConfigError, match="1 or 2 layers, not 3"):
        Adapter(6, 10, layers=3)
