"""Files of weights: read tensor by tensor without running anything, and written likewise."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from locvlm.errors import CheckpointError
from locvlm.io import read_json, write_json
from locvlm.models.drawn import Drawn

# The names under which transformers and others save weights, in the order in which it looks.
FILES = ("model.safetensors", "pytorch_model.bin")
LIMIT = 5 * 10**9  # bytes in a file that we write, which its writer holds in memory


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file, of which no more is read than is asked for.

    Args:
        path: of the file.
        name: of the tensor in it.
        shape: of the tensor.
        dtype: of its numbers.
    """

    path: Path
    name: str
    shape: torch.Size
    dtype: torch.dtype

    def read(self, rows: slice | None = None) -> Tensor:
        """Some rows of it, or all.

        Raises:
            CheckpointError: the file is gone, or damaged.
        """
        with _readable(self.path):
            if self.path.suffix == ".safetensors":
                with safe_open(self.path, "pt") as file:
                    if rows is None:
                        return file.get_tensor(self.name)
                    return file.get_slice(self.name)[rows]
            tensor: Tensor = torch.load(self.path, weights_only=True, mmap=True)[self.name]
            return (tensor if rows is None else tensor[rows]).clone()


# Files of torch before 1.6 can be read as a whole only.
Found: TypeAlias = Tensor | Stored | Drawn


def read_folder(folder: str | Path) -> dict[str, Found]:
    """All weights of a folder that transformers could load: one file, or several with an index.

    Raises:
        CheckpointError: there are none, or they cannot be read.
    """
    folder = Path(folder)
    for name in FILES:
        if (folder / name).is_file():
            return stored_weights(folder / name)
        if (folder / f"{name}.index.json").is_file():
            index = read_json(folder / f"{name}.index.json")
            # Only the last part of a name: an index must not lead out of its folder.
            shards = sorted({Path(shard).name for shard in index["weight_map"].values()})
            return {
                key: tensor
                for shard in shards
                for key, tensor in stored_weights(folder / shard).items()
            }
    raise CheckpointError(
        f"neither {' nor '.join(FILES)} is here, nor an index of either",
        where=str(folder),
        fix="copy or download the folder again",
    )


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, read.

    Raises:
        CheckpointError: as in `stored_weights`.
    """
    return {name: read(found) for name, found in stored_weights(path).items()}


def stored_weights(path: str | Path) -> dict[str, Found]:
    """What is in a `.safetensors` file, or in one that `torch.save` wrote.

    The latter is a pickle, of which only tensors and plain containers are read: no code is run.

    Raises:
        CheckpointError: the file is missing or damaged, or holds something else.
    """
    path = Path(path)
    with _readable(path):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: _stored(file, path, name) for name in file.keys()}  # noqa: SIM118 - no dict
        is_mapped = _is_mappable(path)
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=is_mapped)
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise CheckpointError("this file holds no named tensors", where=str(path))
    if not is_mapped:
        return found
    return {name: Stored(path, name, one.shape, one.dtype) for name, one in found.items()}


def read(found: Found, rows: slice | None = None) -> Tensor:
    """A tensor, or some rows of it, wherever it is."""
    if not isinstance(found, Tensor):
        return found.read(rows)
    return found if rows is None else found[rows]


def write_weights(tensors: Iterable[tuple[str, Tensor]], folder: Path, limit: int = LIMIT) -> None:
    """Writes model.safetensors; where it would be larger than `limit`, several and an index.

    No more is held than the tensors of one file.

    Args:
        tensors: by name.
        folder: is there, and has no weights.
        limit: bytes of the tensors in a file; a file has one tensor at least.
    """
    names: list[list[str]] = []
    held: dict[str, Tensor] = {}
    total = 0

    def write() -> None:
        save_file(held, folder / f"{len(names)}.safetensors")
        names.append(list(held))
        held.clear()

    size = 0
    for name, tensor in tensors:
        if held and size + tensor.nbytes > limit:
            write()
            size = 0
        held[name] = tensor
        size += tensor.nbytes
        total += tensor.nbytes
    write()
    if len(names) == 1:
        (folder / "0.safetensors").rename(folder / FILES[0])
        return
    weight_map: dict[str, str] = {}
    for n, inside in enumerate(names):
        file = f"model-{n + 1:05d}-of-{len(names):05d}.safetensors"
        (folder / f"{n}.safetensors").rename(folder / file)
        weight_map |= dict.fromkeys(inside, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / f"{FILES[0]}.index.json", index)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Says of what cannot be read where it is."""
    try:
        yield
    except (EOFError, KeyError, OSError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise CheckpointError(
            f"cannot read these weights: {str(error).splitlines()[0]}",
            where=str(path),
            fix="copy the file again; what holds more than tensors is not read",
        ) from error


def _stored(file: Any, path: Path, name: str) -> Stored:
    shape = torch.Size(file.get_slice(name).get_shape())
    # No rows of it tell the type of its numbers by torch's name.
    few = file.get_slice(name)[:0] if shape else file.get_tensor(name)
    return Stored(path, name, shape, few.dtype)


def _is_mappable(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"  # a zip file, as torch writes since 1.6
