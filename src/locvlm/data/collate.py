"""Examples to batches: padded on the right, images one after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from locvlm.processor import IGNORE_INDEX, Example


class Batch(TypedDict):
    """B rows padded on the right to the longest, T tokens, with all their N images.

    A row is an example or, in a packed batch, several one after the other.

    input_ids:      (B, T) int64; image tokens are placeholders that the model fills
    attention_mask: (B, T) bool; False on padding
    labels:         (B, T) int64; IGNORE_INDEX where nothing is learned
    loss_weights:   (B, T) float32; what each label weighs in the loss
    pixel_values:   (N, 3, S, S) uint8; images in the order of their placeholders. Or (N, P, E), the
                    features of a frozen encoder
    position_ids:   (B, T) int64, in packed batches only; 0 where an example begins, and on padding
    layout:         a `locvlm.models.layout.Layout`, which training adds
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    loss_weights: Tensor
    pixel_values: Tensor
    position_ids: NotRequired[Tensor]
    layout: NotRequired[Any]


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """One batch of at least one example; `pad_id` is written where a sequence has ended."""
    lengths = torch.tensor([len(example["input_ids"]) for example in examples])

    def pad(name: str, value: float) -> Tensor:
        return pad_sequence([example[name] for example in examples], True, value)  # type: ignore[literal-required]

    input_ids = pad("input_ids", pad_id)
    return Batch(
        input_ids=input_ids,
        attention_mask=torch.arange(input_ids.shape[1])[None] < lengths[:, None],
        labels=pad("labels", IGNORE_INDEX),
        loss_weights=pad("loss_weights", 0.0),
        pixel_values=join_images([example["pixel_values"] for example in examples]),
    )


def join_images(images: Sequence[Tensor]) -> Tensor:
    """(N_i, 3, S, S) images to (N, 3, S, S), channels last in memory as decoders leave them.

    Their features, (N_i, P, E) to (N, P, E), likewise.
    """
    if images[0].ndim == 3:
        return torch.cat(list(images))
    # torch copies pieces of one layout at once; as channels first it goes number by number.
    return torch.cat([each.permute(0, 2, 3, 1) for each in images]).permute(0, 3, 1, 2)


def n_samples(batch: Mapping[str, Any]) -> int:
    """Examples in a batch, whether it is packed, padded, or of images alone."""
    if "layout" in batch:
        return int(batch["layout"].n_examples)
    if "position_ids" in batch:
        return int(((batch["position_ids"] == 0) & batch["attention_mask"]).sum())
    return len(next(iter(batch.values())))
