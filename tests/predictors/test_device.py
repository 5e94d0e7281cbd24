import pytest
import torch
from torch import nn

from locvlm.errors import ConfigError
from locvlm.predictors.device import on_device


def test_a_model_goes_to_the_device_that_is_named_or_found():
    assert next(on_device(nn.Linear(1, 1), "cpu").parameters()).device.type == "cpu"
    found = next(on_device(nn.Linear(1, 1), "auto").parameters()).device.type
    assert found == ("cuda" if torch.cuda.is_available() else "cpu")


def test_its_weights_are_of_the_type_that_is_named():
    assert on_device(nn.Linear(1, 1), "cpu", torch.bfloat16).weight.dtype == torch.bfloat16
    assert on_device(nn.Linear(1, 1).half(), "cpu").weight.dtype == torch.float16


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="cannot run on device 'nowhere'(?s:.*)--device cpu"):
        on_device(nn.Linear(1, 1), "nowhere")
