"""Training on several devices: what the ranks share, and how."""

import torch.distributed as dist
from torch import Tensor


def rank_part(loss: Tensor, weight: Tensor) -> Tensor:
    """A rank's loss, scaled so that the mean over ranks is the loss of their batches as one.

    Ranks average gradients as if each had learned as much. Where one has fewer answers to learn, or
    shorter ones, its tokens would count for more than those of the others.

    Args:
        loss: mean over what this rank's batch teaches.
        weight: what that mean is over.
    """
    if not dist.is_initialized():
        return loss
    mean = weight.detach().float().clone()  # all_reduce writes into it
    dist.all_reduce(mean)
    mean /= dist.get_world_size()
    return loss * weight / mean.masked_fill(mean == 0, 1.0)
