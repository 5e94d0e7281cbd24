"""Files of weights: read without running anything, and given to a model that they fit."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from locvlm.errors import CheckpointError
from locvlm.io import read_json

# The names under which transformers and others save weights, in the order in which it looks.
FILES = ("model.safetensors", "pytorch_model.bin")
_SHOWN = 6


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """All weights of a folder that transformers could load: one file, or several with an index.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    folder = Path(folder)
    for name in FILES:
        if (folder / name).is_file():
            return read_weights(folder / name)
        if (folder / f"{name}.index.json").is_file():
            index = read_json(folder / f"{name}.index.json")
            # Only the last part of a name: an index must not lead out of its folder.
            shards = sorted({Path(shard).name for shard in index["weight_map"].values()})
            return {
                key: tensor
                for shard in shards
                for key, tensor in read_weights(folder / shard).items()
            }
    raise CheckpointError(
        f"neither {' nor '.join(FILES)} is here, nor an index of either",
        where=str(folder),
        fix="copy or download the folder again",
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of one that `torch.save` wrote.

    The latter is a pickle, of which only tensors and plain containers are read: no code is run.

    Raises:
        CheckpointError: the file is missing or damaged, or holds something else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(
            f"cannot read these weights: {str(error).splitlines()[0]}",
            where=str(path),
            fix="copy the file again; what holds more than tensors is not read",
        ) from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError("this file holds no named tensors", where=str(path))
    return found


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; tied ones once, by their first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor
    return tensors


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its parts; where it is sharded all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_first_process() -> bool:
    """Whether this process is the one that writes what all of them have."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gathered(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Whole tensors in the first process's memory, one by one; all others get nothing."""
    first = is_first_process()
    kept = {}
    for name, tensor in tensors:
        one = whole(tensor)
        if first:
            kept[name] = one.detach().cpu().contiguous()
    return kept


def fill(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], where: str) -> None:
    """Gives a model's tensors their values, in the type that these have.

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
        tensor.data = found[name].to(tensor.device)


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
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


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
