import pytest
import torch

from locvlm.errors import CheckpointError
from locvlm.models import Adapter, TimmEncoder
from locvlm.models.llava_parts import (
    SCALE,
    blocks_read_last_but_one,
    both_signs,
    one_layer,
    two_layers,
)
from tests.tiny import ENCODER


def test_both_signs_of_a_matrix():
    assert both_signs(torch.zeros(5, 2)).tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1], [0, 0]]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_large_patch14_clip_quickgelu_336"])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_the_last_block_but_one_gives_what_any_layer_gave(name, layer, norm):
    torch.manual_seed(0)
    encoder = TimmEncoder(name, 32, 8, layer=layer, norm=norm, options=ENCODER)
    tensors, n_blocks = blocks_read_last_but_one(encoder.vit.state_dict(), 3, layer, norm=norm)
    again = TimmEncoder(name, 32, 8, layer=-2, options=ENCODER | {"depth": n_blocks})
    again.vit.load_state_dict(tensors)
    images = torch.randn(2, 3, 32, 32)
    found = again(images) / (SCALE if norm else 1)
    assert torch.allclose(found, encoder(images), atol=2e-6, rtol=0)


def test_an_encoder_that_is_read_there_stays_as_it_is():
    vit = TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER).vit
    tensors, n_blocks = blocks_read_last_but_one(vit.state_dict(), 3, -2, norm=False)
    assert n_blocks == 3
    assert tensors.keys() == vit.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in vit.state_dict().items())


def apply(activation, tensors, features):
    between = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "linear": lambda x: x}
    hidden = between[activation](features @ tensors["0.weight"].T + tensors["0.bias"])
    return hidden @ tensors["2.weight"].T + tensors["2.bias"]


@pytest.mark.parametrize(
    ("layers", "width", "activation"),
    [(2, 8, "gelu"), (1, 8, "relu"), (1, 11, "relu"), (1, 7, "linear"), (1, 3, "linear")],
)
def test_an_adapter_is_the_same_in_two_layers(layers, width, activation):
    adapter = Adapter(4, width, layers)
    named, tensors = two_layers(adapter.net)
    assert named == activation
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "0.weight": (width, 4),
        "0.bias": (width,),
        "2.weight": (width, width),
        "2.bias": (width,),
    }
    features = torch.randn(5, 4)
    assert torch.allclose(apply(named, tensors, features), adapter(features), atol=1e-6)


@pytest.mark.parametrize("width", [11, 7])
@pytest.mark.parametrize("scale", [1, SCALE])
def test_two_layers_that_are_one_become_one_again(width, scale):
    adapter = Adapter(4, width)
    activation, tensors = two_layers(adapter.net)
    found = one_layer(activation, tensors | {"0.weight": tensors["0.weight"] / scale}, "here")
    assert torch.equal(found["0.weight"] * scale, adapter.net[0].weight)
    assert torch.equal(found["0.bias"], adapter.net[0].bias)


def test_two_layers_that_are_not_one_are_refused():
    _, tensors = two_layers(Adapter(4, 11).net)
    for name, changed in (
        ("0.weight", torch.rand(11, 4)),
        ("0.bias", torch.ones(11)),
        ("2.weight", torch.rand(11, 11)),
    ):
        with pytest.raises(CheckpointError, match="ReLU between its layers(?s:.*)here"):
            one_layer("relu", tensors | {name: changed}, "here")
