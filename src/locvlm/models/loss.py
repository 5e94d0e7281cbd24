"""The training loss: cross entropy in which some tokens weigh more."""

import torch.nn.functional as F
from torch import Tensor

from locvlm.processor import IGNORE_INDEX


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
    total = weights.sum()
    # Where nothing is learned the loss is 0; a plain mean would be NaN and end the training.
    return (weights * losses).sum() / total.masked_fill(total == 0, 1.0)


def learned_weight(labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """What the learned tokens of a batch weigh together; `LocVLM` gives the mean loss over it.

    Args:
        labels: (B, T) token ids, as `LocVLM.forward` takes them.
        weights: (B, T) how much each token counts; None: all the same.
    """
    learned = labels[:, 1:] != IGNORE_INDEX  # nothing stands before a row's first token
    return learned.sum() if weights is None else weights[:, 1:][learned].sum()
