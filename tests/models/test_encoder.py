import pytest
import timm
import torch
from safetensors.torch import save_file

from locvlm.errors import CheckpointError, ConfigError
from locvlm.models import TimmEncoder
from tests.tiny import ENCODER

NAME = "vit_tiny_patch16_224"


def make(**arguments):
    torch.manual_seed(0)
    return TimmEncoder(NAME, 32, 8, **({"options": ENCODER} | arguments)).eval()


@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_reads_the_patch_tokens_after_the_named_block(layer):
    encoder = make(layer=layer)
    images = torch.randn(2, 3, 32, 32)
    vit = encoder.vit
    hidden = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    for block in list(vit.blocks)[: 3 + layer + 1]:
        hidden = block(hidden)
    assert torch.allclose(encoder(images), hidden[:, 1:], atol=1e-6)
    assert encoder(images).shape == (2, encoder.n_patches, encoder.width) == (2, 16, 32)


def test_the_final_norm_is_an_option():
    images = torch.randn(2, 3, 32, 32)
    with_norm, without = make(layer=-1, norm=True), make(layer=-1)
    assert torch.allclose(with_norm(images), without.vit.norm(without(images)), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "image_size", "patch_size", "options"),
    [
        ("vit_base_patch16_siglip_224", 32, 16, {"embed_dim": 32, "depth": 2, "num_heads": 2}),
        ("vit_small_patch14_reg4_dinov2", 28, 14, {"embed_dim": 32, "depth": 2, "num_heads": 2}),
        ("vit_large_patch14_clip_quickgelu_224", 28, 14, {"depth": 2, "embed_dim": 32}),
        ("eva02_tiny_patch14_224", 28, 14, {"depth": 2}),
    ],
)
def test_class_and_register_tokens_of_any_vit_are_dropped(name, image_size, patch_size, options):
    encoder = TimmEncoder(name, image_size, patch_size, options=options)
    features = encoder(torch.zeros(1, 3, image_size, image_size))
    assert features.shape == (1, encoder.n_patches, encoder.width)


def test_weights_that_pool_patches_are_dropped_where_they_are_loaded_too(tmp_path):
    name, options = "vit_base_patch16_siglip_224", {**ENCODER, "act_layer": "gelu_tanh"}
    torch.manual_seed(1)
    vit = timm.create_model(name, img_size=32, **options)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    assert any(key.startswith("attn_pool.") for key in vit.state_dict())
    encoder = TimmEncoder(
        name, 32, 8, pretrained=str(tmp_path / "vit.safetensors"), options=options
    )
    own = encoder.vit.state_dict()
    assert own.keys() == {key for key in vit.state_dict() if not key.startswith("attn_pool.")}
    assert all(torch.equal(tensor, vit.state_dict()[key]) for key, tensor in own.items())
    assert TimmEncoder(**encoder.config()).vit.state_dict().keys() == own.keys()


def test_features_that_it_gave_before_stay_as_they_are():
    encoder = make()
    features = encoder(torch.randn(2, 3, 32, 32)).detach()
    assert torch.equal(encoder(features), features)
    assert encoder(features.half()).dtype == torch.float32


def test_images_of_another_type_are_read_in_the_weights_type():
    assert make().bfloat16()(torch.zeros(1, 3, 32, 32)).dtype == torch.bfloat16


@pytest.mark.parametrize("classes", [0, 10])
def test_weights_come_from_a_local_file_with_or_without_classifier(tmp_path, classes):
    torch.manual_seed(1)
    vit = timm.create_model(NAME, img_size=32, num_classes=classes or 1000, **ENCODER)
    if not classes:
        vit.reset_classifier(0)
    weights = {k: v for k, v in vit.state_dict().items() if classes or not k.startswith("head")}
    if classes:
        weights["head.weight"] = torch.zeros(1000, 32)
        weights["head.bias"] = torch.zeros(1000)
    save_file(weights, tmp_path / "vit.safetensors")
    encoder = make(pretrained=str(tmp_path / "vit.safetensors"))
    assert torch.equal(encoder.vit.blocks[1].attn.qkv.weight, vit.blocks[1].attn.qkv.weight)


def test_weights_of_another_architecture_are_refused(tmp_path):
    vit = timm.create_model(NAME, img_size=32, num_classes=0, **(ENCODER | {"depth": 2}))
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(CheckpointError, match="not of the architecture") as error:
        make(pretrained=str(tmp_path / "vit.safetensors"))
    assert "blocks.2" in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match="no weights file .*nowhere.safetensors"):
        make(pretrained="nowhere.safetensors")


def test_weights_that_cannot_be_downloaded_say_how_to_bring_them():
    with pytest.raises(CheckpointError, match=r"cannot be had.*(?s:.*)pretrained=FILE"):
        make(pretrained=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": -4}, "layer -4 of an encoder with 3 blocks"),
        ({"layer": 0}, "layer 0 of an encoder"),
        ({"options": ENCODER | {"patch_size": 16}}, "2 x 2 patches of 32 pixels"),
        ({"options": ENCODER | {"dept": 3}}, "unexpected keyword argument 'dept'"),
    ],
)
def test_refuses_what_does_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


def test_an_unknown_name_gets_suggestions():
    with pytest.raises(ConfigError, match="did you mean .*vit_tiny_patch16_224"):
        TimmEncoder("vit_tiny_patch16_225", 32, 8)


def test_refuses_what_is_no_vit():
    with pytest.raises(ConfigError, match="resnet18 .*no vision transformer|cannot build resnet18"):
        TimmEncoder("resnet18", 32, 8)


def test_its_config_builds_it_again():
    encoder = make(layer=-1, mean=(0.1, 0.2, 0.3))
    again = TimmEncoder(**encoder.config())
    assert again.config() == encoder.config()
    again.load_state_dict(encoder.state_dict())
