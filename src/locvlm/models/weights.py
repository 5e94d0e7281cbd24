"""Weights of a model: given values that fit, wherever they are, and gathered."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from locvlm.errors import CheckpointError
from locvlm.models.files import Found, read

_SHOWN = 6


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; tied ones once, by their first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


@contextmanager
def keeping_computed(model: nn.Module) -> Iterator[None]:
    """Meanwhile what `model` computed for itself moves to other devices, but not to other types.

    Frequencies of rotary embeddings in bfloat16 are off by up to half a percent, which turns tokens
    hundreds of places away by half a radian; a saved model would compute them anew, exactly.
    """
    before = {
        (module, name): module.get_buffer(name)
        for module in model.modules()
        for name in module._non_persistent_buffers_set
    }
    yield
    for (module, name), kept in before.items():
        now = module.get_buffer(name)
        if now.dtype != kept.dtype and not kept.is_meta:
            setattr(module, name, kept.to(now.device))


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; where it is sharded all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def first_values(tensor: Any, n: int) -> Tensor:
    """The first numbers of a tensor, which may be sharded, or be read later."""
    if not tensor.is_meta:
        return whole(tensor.detach().flatten()[:n])
    per_row = max(1, tensor.shape[1:].numel())
    rows = read(tensor.found, slice(0, -(-n // per_row)))
    return rows.flatten()[:n].to(tensor.dtype)


def is_first_process() -> bool:
    """Whether this process is the one that writes what all of them have."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gathered(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors in this process's memory, one after the other; all processes must go along."""
    for name, tensor in tensors:
        yield name, whole(tensor).detach().cpu().contiguous()


def fill(wanted: Mapping[str, Tensor], found: Mapping[str, Found], where: str) -> None:
    """Gives a model's tensors their values, in the type that these have.

    A tensor on the meta device is told where its values are, and `unread` says it again.

    Args:
        wanted: what is replaced, such as `own_tensors(model)`.
        found: the values, under exactly the same names.
        where: they come from, for error messages.

    Raises:
        CheckpointError: keys are missing, unknown or of another shape.
    """
    if problems := differences(wanted, found):
        raise CheckpointError(
            "these weights are of another model:\n" + "\n".join(f"    {line}" for line in problems),
            where=where,
            fix="build the model that they were saved from",
        )
    for name, tensor in wanted.items():
        if tensor.is_meta:
            tensor.data = torch.empty_like(tensor, dtype=found[name].dtype)
            fill_later(tensor, found[name])
        else:
            tensor.data = read(found[name]).to(tensor.device)


def fill_later(tensor: Any, found: Found) -> None:
    """Tells a tensor on the meta device where its values are."""
    tensor.found = found


def unread(model: nn.Module) -> dict[str, Found]:
    """Where the values are of tensors on the meta device, by name."""
    tensors: dict[str, Any] = dict(own_tensors(model))
    return {name: tensor.found for name, tensor in tensors.items() if tensor.is_meta}


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Found]) -> list[str]:
    """One line for each key that is missing, unknown, or of another shape."""
    lines = [f"missing: {name} {_shape(wanted[name])}" for name in wanted if name not in found]
    lines += [f"unknown: {name} {_shape(found[name])}" for name in found if name not in wanted]
    lines += [
        f"{name} is {_shape(found[name])}, the model's is {_shape(wanted[name])}"
        for name in wanted
        if name in found and found[name].shape != wanted[name].shape
    ]
    more = len(lines) - _SHOWN
    return lines[:_SHOWN] + ([f"and {more} more"] if more > 0 else [])


def _shape(tensor: Found) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
