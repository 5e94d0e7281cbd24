"""Where things stand in a batch, in numbers that the program knows and not only the device."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from locvlm.errors import DataError
from locvlm.processor import IGNORE_INDEX


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tokens of a batch are images', which are learned from, and where examples lie.

    To pick by a mask that is on a GPU, the program must wait for all work before it and be told how
    many there are. Made of a batch that is still on the CPU, this lets a training step go on
    without waiting.

    Args:
        images: (M,) int64, places of image tokens; rows count on, so the second begins at T.
        learned: (K,) int64, places of the tokens that predict a learned one; None: no labels.
        examples: of packed rows, each with its row, in order; the padding behind them counts as
            one. None: each row is one example.
        n_examples: without padding.
    """

    images: Tensor
    learned: Tensor | None
    examples: tuple[tuple[int, slice], ...] | None
    n_examples: int

    def to(self, device: torch.device | str) -> "Layout":
        """The same on a device, as Lightning moves batches."""
        learned = None if self.learned is None else to_device(self.learned, device)
        return replace(self, images=to_device(self.images, device), learned=learned)


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor that was just made on the CPU, on a device; nothing waits for the copy."""
    if torch.device(device).type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()  # else it may be copied only when the device gets to it
    return tensor.to(device, non_blocking=True)


def find_layout(
    input_ids: Tensor,
    image_token_id: int,
    attention_mask: Tensor | None = None,
    labels: Tensor | None = None,
    position_ids: Tensor | None = None,
) -> Layout:
    """The layout of a batch, see `LocVLM.forward`; waits for the device that it is on.

    Raises:
        DataError: padding stands on the left.
    """
    if attention_mask is not None and not bool(attention_mask[:, 0].all()):
        raise DataError("padding stands on the left", fix="pad sequences on the right")
    learned, examples, n_examples = None, None, len(input_ids)
    if labels is not None:
        ahead = torch.full_like(labels, IGNORE_INDEX)
        ahead[:, :-1] = labels[:, 1:]  # the token at t is predicted at t - 1
        learned = _places(ahead != IGNORE_INDEX)
    if position_ids is not None:
        examples = _examples(position_ids.expand(input_ids.shape))
        shown = (
            position_ids == 0 if attention_mask is None else (position_ids == 0) & attention_mask
        )
        n_examples = int(shown.sum())
    return Layout(_places(input_ids == image_token_id), learned, examples, n_examples)


def _places(mask: Tensor) -> Tensor:
    return mask.flatten().nonzero().flatten()


def _examples(positions: Tensor) -> tuple[tuple[int, slice], ...]:
    begins = positions == 0
    begins[:, 1:] &= positions[:, :-1] != 0  # padding has position 0 throughout
    begins[:, 0] = True
    starts = begins.nonzero().tolist()
    n_tokens = positions.shape[1]
    ends = [start if start else n_tokens for _, start in [*starts[1:], (0, 0)]]
    return tuple((row, slice(start, end)) for (row, start), end in zip(starts, ends, strict=True))


def check_places(n_tokens: int, n_images: int, n_patches: int) -> None:
    """Refuses a batch with more or fewer image tokens than its images have patches.

    Raises:
        DataError: names both numbers.
    """
    if n_tokens != n_images * n_patches:
        raise DataError(
            f"{n_tokens} image tokens for {n_images} images of {n_patches} patches each",
            where="input_ids, pixel_values",
            fix="make prompts by Processor.prompt, and give all their images",
        )
