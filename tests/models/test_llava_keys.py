import pytest
import torch

from locvlm.models import TimmEncoder
from locvlm.models.llava_keys import CLIP, TOWERS, VIT, own_name, to_own_names
from tests.tiny import ENCODER


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("vision_tower.vision_model.pre_layrnorm.bias", "encoder.vit.pre_layrnorm.bias"),
        ("model.vision_tower.pre_layrnorm.bias", "encoder.vit.pre_layrnorm.bias"),
        (
            "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
            "encoder.vit.pre_layrnorm.bias",
        ),
        ("model.mm_projector.weight", "adapter.net.0.weight"),
        ("model.mm_projector.2.weight", "adapter.net.2.weight"),
        ("model.multi_modal_projector.linear_2.bias", "adapter.net.2.bias"),
        ("lm_head.weight", "language_model.lm_head.weight"),
        ("language_model.lm_head.weight", "language_model.lm_head.weight"),
        ("language_model.model.norm.weight", "language_model.model.norm.weight"),
        ("model.language_model.norm.weight", "language_model.model.norm.weight"),
        ("model.norm.weight", "language_model.model.norm.weight"),
        ("image_newline", "image_newline"),
    ],
)
def test_every_writers_names_become_ours(theirs, ours):
    assert own_name(theirs) == ours


@pytest.mark.parametrize("tower", TOWERS.values(), ids=TOWERS)
def test_a_towers_weights_are_timms_and_back_again(tower):
    torch.manual_seed(0)
    [name, *_] = tower.timm.values()
    vit = TimmEncoder(name, 32, 8, options=ENCODER).vit
    theirs = tower.from_timm(vit.state_dict(), 3)
    assert {f"{tower.blocks}.2.{each}.bias" for each in tower.block["attn.qkv"]} < theirs.keys()
    back = tower.to_timm(theirs, 3)
    assert back.keys() == vit.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in vit.state_dict().items())


def test_clip_has_no_dimension_for_images():
    theirs = CLIP.from_timm(
        {"cls_token": torch.zeros(1, 1, 4), "pos_embed": torch.ones(1, 5, 4)}, 0
    )
    assert theirs["embeddings.class_embedding"].shape == (4,)
    assert theirs["embeddings.position_embedding.weight"].shape == (5, 4)


def test_an_incomplete_layer_keeps_its_names():
    two = {f"encoder.layers.0.self_attn.{n}_proj.bias": torch.zeros(4) for n in "qk"}
    assert CLIP.to_timm(two, 1).keys() == two.keys()


def test_what_no_model_needs_is_dropped():
    names = [
        "vision_tower.vision_model.embeddings.position_ids",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "vision_tower.pooler.dense.weight",
    ]
    assert to_own_names({name: torch.zeros(1) for name in names}, VIT, 1) == {}
