"""Floating point operations of a training step, counted from a model's layers and its batches."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from locvlm.processor import IGNORE_INDEX

# Of one device in bf16 or fp16 with sums in float32, as its data sheet gives it for dense matrices.
# NVIDIA often prints twice as much, for matrices half of whose numbers are zero. Where one name
# begins like another, the longer one stands first.
PEAK_FLOPS = {
    "B200": 2250e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 5090": 209e12,
    "RTX 4090 D": 147e12,
    "RTX 4090": 165e12,
    "RTX 3090 Ti": 80e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
}


class Work(NamedTuple):
    """What a batch holds, as far as it costs time; padding is none of it.

    examples: samples, packed or not
    images:   N
    tokens:   image tokens among them
    pairs:    the sum of squared lengths of examples: attention looks from each token at each
    learned:  tokens whose logits are computed
    """

    examples: int
    images: int
    tokens: int
    pairs: int
    learned: int


@dataclass(frozen=True, slots=True)
class Cost:
    """FLOPs of a training step, forward and backward, for each of what a batch holds."""

    per_image: int
    per_token: int
    per_pair: int
    per_logit: int

    def flops(self, work: Work) -> int:
        """Of a step, or of several whose work was added up."""
        return (
            self.per_image * work.images
            + self.per_token * work.tokens
            + self.per_pair * work.pairs
            + self.per_logit * work.learned
        )


def work(batch: Mapping[str, Any]) -> Tensor:
    """The five numbers of `Work`, (5,) int64, on the batch's device; nothing waits for them.

    Args:
        batch: a `Batch`, packed or padded.
    """
    shown, labels = batch["attention_mask"], batch["labels"]
    positions = batch.get("position_ids")
    if positions is None:
        positions = torch.arange(shown.shape[1], device=shown.device).expand(shown.shape)
    return torch.stack(
        [
            ((positions == 0) & shown).sum(),
            torch.full((), len(batch["pixel_values"]), device=shown.device),
            shown.sum(),
            ((2 * positions + 1) * shown).sum(),  # 1 + 3 + 5 + ... to length l is l * l
            (labels[:, 1:] != IGNORE_INDEX).sum(),
        ]
    )


def cost(model: nn.Module) -> Cost:
    """What training a model costs: only matrix products count, as is usual.

    A product with a weight takes 2 FLOPs per weight forward, 2 more where gradients flow through
    it to something that learns, and 2 more where the weight itself learns. Attention takes 4 per
    pair of tokens and number of a head's width, and twice as much again backward. It counts as if
    every token looked at all tokens, as in PaLM; a causal kernel may do half. What is computed
    twice, as in gradient checkpointing, counts once.

    Args:
        model: a `LocVLM` as it is trained, or a module with parts of the same names. LoRA and
            quantized layers count as what they compute, which is a product with all weights.

    Source: PaLM (2022), appendix B.
    """
    encoder: Any = model.get_submodule("encoder")
    language: Any = model.get_submodule("language_model")
    adapter = model.get_submodule("adapter")
    through_encoder = _learns(encoder)
    through_adapter = through_encoder or _learns(adapter)
    through_language = through_adapter or _learns(language)
    first, *rest = _linear(adapter)
    head: Any = language.get_output_embeddings()
    per_patch = _products([first], through_encoder) + _products(rest, through_adapter)
    return Cost(
        per_image=_encoder(encoder, through_encoder) + encoder.n_patches * per_patch,
        per_token=_products(
            [layer for layer in _linear(language) if layer is not head], through_language
        ),
        per_pair=_attention_width(language.config) * 4 * (1 + 2 * through_language),
        per_logit=_products([head], through_language),
    )


def peak_flops(device_name: str) -> float | None:
    """FLOPs per second that a device could do; None where the table does not know it.

    Args:
        device_name: as in `torch.cuda.get_device_name`.
    """
    if re.search(r"Laptop| MIG ", device_name):  # less than the card that it is named after
        return None
    found = (peak for name, peak in PEAK_FLOPS.items() if re.search(rf"\b{name}\b", device_name))
    return next(found, None)


def _encoder(encoder: Any, learns: bool) -> int:
    """Of one image, up to the block whose output is read."""
    vit = encoder.vit
    blocks = list(vit.blocks)[: len(vit.blocks) + encoder.layer + 1]
    n_tokens = encoder.n_patches + vit.num_prefix_tokens
    patches: Any = vit.patch_embed.proj  # its input is the image, which learns nothing
    weights = patches.in_channels * patches.out_channels * patches.kernel_size[0] ** 2
    return (
        2 * weights * encoder.n_patches * (1 + learns)
        + sum(_products(_linear(block), learns) for block in blocks) * n_tokens
        + len(blocks) * 4 * vit.embed_dim * n_tokens**2 * (1 + 2 * learns)
    )


def _products(layers: Iterable[nn.Linear], gradients: bool) -> int:
    """Of one token; `gradients` flow through the layers to something before them."""
    return sum(
        2 * layer.in_features * layer.out_features * (1 + gradients + layer.weight.requires_grad)
        for layer in layers
    )


def _linear(part: nn.Module) -> list[nn.Linear]:
    return [layer for layer in part.modules() if isinstance(layer, nn.Linear)]


def _attention_width(config: Any) -> int:
    """Heads times their width, over all layers."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(config.num_hidden_layers * config.num_attention_heads * width)


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
