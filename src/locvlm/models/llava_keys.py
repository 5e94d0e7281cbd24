"""Names of LLaVA's weights in all of its layouts, and the names that they have here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from locvlm.models.files import Found, read

ENCODER, ADAPTER, LANGUAGE = "encoder.vit.", "adapter.net.", "language_model."
# How names begin, as each writer has it; the first that fits counts.
_BEGINNINGS = {
    "model.vision_tower.vision_tower.vision_model.": ENCODER,  # LLaVA's authors
    "model.vision_tower.vision_model.": ENCODER,
    "model.vision_tower.": ENCODER,  # transformers 5 in memory
    "vision_tower.vision_model.": ENCODER,  # transformers 4, and llava-hf on the hub
    "vision_tower.": ENCODER,  # transformers 5 on disk
    "vision_model.": ENCODER,  # a CLIP on its own
    "model.mm_projector.": ADAPTER,  # LLaVA's authors
    "mm_projector.": ADAPTER,
    "model.multi_modal_projector.": ADAPTER,
    "multi_modal_projector.": ADAPTER,
    "language_model.": LANGUAGE,
    "model.language_model.": f"{LANGUAGE}model.",
    "lm_head.": f"{LANGUAGE}lm_head.",
    "model.": f"{LANGUAGE}model.",
}
# Layers of the adapter; LLaVA's authors call one layer by no name at all.
_ADAPTER = {"linear_1.": "0.", "linear_2.": "2.", "weight": "0.weight", "bias": "0.bias"}
# Computed from the configuration, or of what LLaVA does not use: one vector for a whole image.
_UNUSED = re.compile(r"\.position_ids$|\.inv_freq$|^encoder\.vit\.(pooler|head)\.")


@dataclass(frozen=True, slots=True)
class Tower:
    """What transformers calls the parts of a vision transformer, by timm's names for them.

    Args:
        kind: transformers' model type.
        prefix: of its weights in a file that transformers 4 and 5 read alike.
        timm: a model of timm of this kind, by the activation within its blocks.
        eps: of its layer norms, in timm.
        tensors: names of single tensors.
        layers: names of what has a weight and a bias.
        blocks: what stands before the number of a block.
        block: names of layers within a block; timm holds some of them in one.
        flat: whether its embeddings have no dimension for images.
        strategy: which of its tokens LLaVA takes: `default` leaves the first one out, a class
            token; `full` takes all.
    """

    kind: str
    prefix: str
    timm: Mapping[str, str]
    eps: float
    tensors: Mapping[str, str]
    layers: Mapping[str, str]
    blocks: str
    block: Mapping[str, tuple[str, ...]]
    flat: bool
    strategy: str = "default"

    @property
    def n_more(self) -> int:
        """Tokens that it has beside an image's patches."""
        return int(self.strategy == "default")

    def names(self, n_blocks: int) -> dict[str, list[str]]:
        """Each name in timm, with the names of the tensors that it holds one after the other."""
        found = {ours: [theirs] for ours, theirs in self.tensors.items()}
        layers = {ours: [theirs] for ours, theirs in self.layers.items()}
        for n in range(n_blocks):
            for ours, theirs in self.block.items():
                layers[f"blocks.{n}.{ours}"] = [f"{self.blocks}.{n}.{each}" for each in theirs]
        for ours, several in layers.items():
            for ending in ("weight", "bias"):
                found[f"{ours}.{ending}"] = [f"{each}.{ending}" for each in several]
        return found

    def to_timm(self, tensors: Mapping[str, Tensor], n_blocks: int) -> dict[str, Tensor]:
        """Its weights under timm's names; unknown ones keep theirs."""
        left = dict(tensors)
        found: dict[str, Tensor] = {}
        for ours, theirs in self.names(n_blocks).items():
            if all(each in left for each in theirs):
                found[ours] = torch.cat([left.pop(each) for each in theirs])
        for ours in ("cls_token", "pos_embed"):
            if ours in found:
                found[ours] = found[ours].reshape(1, -1, found[ours].shape[-1])
        return found | left

    def from_timm(self, tensors: Mapping[str, Tensor], n_blocks: int) -> dict[str, Tensor]:
        """The reverse: timm's weights under its own names; unknown ones keep theirs."""
        left = dict(tensors)
        found: dict[str, Tensor] = {}
        for ours, theirs in self.names(n_blocks).items():
            if ours in left:
                found.update(zip(theirs, left.pop(ours).chunk(len(theirs)), strict=True))
        if self.flat:
            for ours in self.tensors.keys() & {"cls_token", "pos_embed"}:
                found[self.tensors[ours]] = found[self.tensors[ours]].squeeze()
        return found | left


CLIP = Tower(
    kind="clip_vision_model",
    prefix="vision_tower.vision_model.",
    timm={
        "quick_gelu": "vit_large_patch14_clip_quickgelu_336",
        "gelu": "vit_large_patch14_clip_336",
    },
    eps=1e-5,
    tensors={
        "cls_token": "embeddings.class_embedding",
        "pos_embed": "embeddings.position_embedding.weight",
        "patch_embed.proj.weight": "embeddings.patch_embedding.weight",
    },
    layers={"norm_pre": "pre_layrnorm", "norm": "post_layernorm"},
    blocks="encoder.layers",
    block={
        "norm1": ("layer_norm1",),
        "attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "attn.proj": ("self_attn.out_proj",),
        "norm2": ("layer_norm2",),
        "mlp.fc1": ("mlp.fc1",),
        "mlp.fc2": ("mlp.fc2",),
    },
    flat=True,
)
VIT = Tower(
    kind="vit",
    prefix="vision_tower.",
    timm={"gelu": "vit_base_patch16_224"},
    eps=1e-6,
    tensors={
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
    },
    layers={"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"},
    blocks="encoder.layer",
    block={
        "norm1": ("layernorm_before",),
        "attn.qkv": tuple(f"attention.attention.{each}" for each in ("query", "key", "value")),
        "attn.proj": ("attention.output.dense",),
        "norm2": ("layernorm_after",),
        "mlp.fc1": ("intermediate.dense",),
        "mlp.fc2": ("output.dense",),
    },
    flat=False,
)
SIGLIP = Tower(
    kind="siglip_vision_model",
    prefix="vision_tower.vision_model.",
    timm={
        "gelu_pytorch_tanh": "vit_so400m_patch16_siglip_256",
        "gelu": "vit_base_patch16_siglip_256",
    },
    eps=1e-6,
    tensors={"pos_embed": "embeddings.position_embedding.weight"},
    layers={"patch_embed.proj": "embeddings.patch_embedding", "norm": "post_layernorm"},
    blocks=CLIP.blocks,
    block=CLIP.block,
    flat=True,
    strategy="full",
)
TOWERS = {tower.kind: tower for tower in (CLIP, VIT, SIGLIP)}


def nearest_tower(vit: Any) -> Tower:
    """The tower that a ViT of timm is, if it is one of them at all."""
    if not vit.num_prefix_tokens:
        return SIGLIP
    return CLIP if isinstance(vit.norm_pre, nn.LayerNorm) else VIT


def to_own_names(tensors: Mapping[str, Found], tower: Tower, n_blocks: int) -> dict[str, Found]:
    """Weights of LLaVA in any layout, under the names that a `LocVLM` has for them.

    Unknown ones keep their names, and what no model needs is dropped. Those of the encoder are
    read, for timm has some of them in one.
    """
    renamed = {own_name(name): tensor for name, tensor in tensors.items()}
    renamed = {name: tensor for name, tensor in renamed.items() if not _UNUSED.search(name)}
    vision = {
        name.removeprefix(ENCODER): read(tensor)
        for name, tensor in renamed.items()
        if name.startswith(ENCODER)
    }
    others = {name: tensor for name, tensor in renamed.items() if not name.startswith(ENCODER)}
    vision = tower.to_timm(vision, n_blocks)
    return {f"{ENCODER}{name}": tensor for name, tensor in vision.items()} | others


def own_name(name: str) -> str:
    """The name of a weight here, but for what is within the encoder.

    >>> own_name("model.mm_projector.2.bias"), own_name("multi_modal_projector.linear_1.weight")
    ('adapter.net.2.bias', 'adapter.net.0.weight')
    >>> own_name("model.layers.0.mlp.up_proj.weight")
    'language_model.model.layers.0.mlp.up_proj.weight'
    """
    for beginning, ours in _BEGINNINGS.items():
        if name.startswith(beginning):
            rest = name.removeprefix(beginning)
            if ours == ADAPTER:
                for theirs, own in _ADAPTER.items():
                    if rest.startswith(theirs):
                        rest = own + rest.removeprefix(theirs)
                        break
            return ours + rest
    return name
