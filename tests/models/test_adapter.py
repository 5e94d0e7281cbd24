import pytest
import torch
from torch import nn

from locvlm.errors import CheckpointError, ConfigError
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


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (1, {"weight": "0.weight", "bias": "0.bias"}),
        (2, {name: name for name in ("0.weight", "0.bias", "2.weight", "2.bias")}),
    ],
)
def test_weights_of_llavas_first_stage_are_taken_over(tmp_path, layers, names):
    stage1 = Adapter(3, 4, layers).net.state_dict()
    saved = {f"model.mm_projector.{name}": stage1[own].half() for name, own in names.items()}
    torch.save(saved, tmp_path / "mm_projector.bin")
    adapter = Adapter(3, 4, layers, pretrained=str(tmp_path / "mm_projector.bin"))
    for name, tensor in adapter.net.state_dict().items():
        assert torch.equal(tensor, stage1[name].half().float())
    assert adapter.config() == Adapter(3, 4, layers).config()


def test_weights_of_another_adapter_are_refused(tmp_path):
    path = tmp_path / "mm_projector.bin"
    torch.save({"model.mm_projector.weight": torch.zeros(4, 5)}, path)
    with pytest.raises(CheckpointError) as error:
        Adapter(3, 4, pretrained=str(path))
    assert "missing: 0.bias 4" in str(error.value)
    assert "0.weight is 4x5, the model's is 4x3" in str(error.value)
    assert str(path) in str(error.value)


def test_tokens_that_llava_trained_beside_its_adapter_are_not_lost_in_silence(tmp_path):
    path = tmp_path / "mm_projector.bin"
    saved = {f"model.mm_projector.{n}": t for n, t in nn.Linear(3, 4).state_dict().items()}
    torch.save(saved | {"model.embed_tokens.weight": torch.zeros(9, 4)}, path)
    with pytest.raises(CheckpointError, match="unknown: language_model.model.embed_tokens.weight"):
        Adapter(3, 4, pretrained=str(path))
