"""The training loss: cross entropy in which some tokens weigh more."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from locvlm.processor import IGNORE_INDEX

AT_ONCE = 2**25  # logits; with their gradients about half a gigabyte


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross entropy in float32, each token counting by its weight.

    Args:
        logits: (K, V) of the tokens that are learned, in any float type.
        labels: (K,) token ids.
        weights: (K,) how much each token counts; None: all the same.

    Returns:
        sum(weights * cross entropy) / sum(weights); 0 where nothing is learned.
    """
    losses = F.cross_entropy(logits.float(), labels, reduction="none")
    if weights is None:
        return losses.sum() / max(1, len(labels))
    return (weights * losses).sum() / _total(weights)


def head_cross_entropy(
    head: Any, hidden: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Tensor:
    """As `weighted_cross_entropy` of `head(hidden)`, but never holds more than `AT_ONCE` logits.

    Beyond them logits are computed piece by piece, and again for their gradients. torch's
    `linear_cross_entropy` takes still less memory, but rounds the loss of each token to the type of
    the hidden states, knows no sharded weights, and is missing in torch 2.11.

    Args:
        head: (K, D) to (K, V) logits; a linear layer, sharded or not, with or without a bias.
        hidden: (K, D) of the tokens that are learned.
        labels: (K,) token ids.
        weights: (K,) how much each token counts; None: all the same.
    """
    n_rows = rows_at_once(head)
    if len(labels) <= n_rows:
        return weighted_cross_entropy(head(hidden), labels, weights)
    weights = torch.ones_like(labels, dtype=torch.float32) if weights is None else weights
    piece = partial(checkpoint, _sum, head, use_reentrant=False, preserve_rng_state=False)
    pieces = zip(*(part.split(n_rows) for part in (hidden, labels, weights)), strict=True)
    return torch.stack([piece(*parts) for parts in pieces]).sum() / _total(weights)


def rows_at_once(head: Any) -> int:
    """Tokens whose logits are computed together."""
    return max(1, AT_ONCE // int(head.out_features))


def learned_weight(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """What the learned tokens of a batch weigh together; `LocVLM` gives the mean loss over it.

    Args:
        labels: (B, T) token ids, as `LocVLM.forward` takes them.
        weights: (B, T) how much each token counts; None: all the same.
    """
    learned = labels[:, 1:] != IGNORE_INDEX  # nothing stands before a row's first token
    # Not picked by the mask, which would wait for the device to tell how many there are.
    if weights is None:
        return learned.sum()
    return (weights[:, 1:] * learned).sum(dtype=torch.float32)


def _sum(head: Any, hidden: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return (weights * F.cross_entropy(head(hidden).float(), labels, reduction="none")).sum()


def _total(weights: Tensor) -> Tensor:
    # In float32: under bf16-true Lightning gives weights in bfloat16, which cannot count to 300.
    total = weights.sum(dtype=torch.float32)
    # Where nothing is learned the loss is 0; a plain mean would be NaN and end the training.
    return total.masked_fill(total == 0, 1.0)
