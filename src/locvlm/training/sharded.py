"""Checkpoints to which every process writes its part; read without running what they hold."""

import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer

from locvlm.errors import CheckpointError
from locvlm.io import replace_folder

META = "meta.pt"  # progress, schedules, callbacks, data: what is not sharded
# The classes that torch's index of a sharded checkpoint consists of.
_INDEX = "torch.distributed.checkpoint.metadata"
_KNOWN = {
    *(
        (_INDEX, name)
        for name in (
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        )
    ),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),  # Python 3.13
}


def save_sharded(checkpoint: dict[str, Any], folder: Path) -> None:
    """Writes a checkpoint of Lightning whole or not at all; all processes take part.

    Args:
        checkpoint: its `state_dict` and `optimizer_states` are sharded; loses them.
        folder: replaced if it is there.
    """
    new = folder.with_name(f".tmp-{folder.name}")
    if dist.get_rank() == 0:
        shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
        new.mkdir(parents=True)
    dist.barrier()
    state = {"state_dict": checkpoint.pop("state_dict")}
    for number, optimizer in enumerate(checkpoint.pop("optimizer_states", [])):
        state[f"optimizer_{number}"] = optimizer
    writer = FileSystemWriter(new, single_file_per_rank=True, sync_files=True)
    save(state, storage_writer=writer)
    if dist.get_rank() == 0:
        torch.save(checkpoint, new / META)
        if folder.is_file():  # of a run on one device
            folder.unlink()
        replace_folder(new, folder)
    dist.barrier()


def load_sharded(
    folder: Path, model: nn.Module, optimizers: Sequence[Optimizer], *, strict: bool = True
) -> dict[str, Any]:
    """Reads what `save_sharded` wrote, by any number of processes.

    Args:
        folder: the checkpoint.
        model: sharded; gets its weights.
        optimizers: of `model`; get their states.
        strict: whether all weights of the model must be there.

    Returns:
        The rest of the checkpoint, and the weights under `state_dict`.

    Raises:
        CheckpointError: there is no such checkpoint, or it holds something else.
    """
    if not (folder / META).is_file():
        raise CheckpointError(
            "this is no checkpoint of fsdp", where=str(folder), fix="copy the folder again"
        )
    reader = _Reader(folder)
    stored = reader.read_metadata().state_dict_metadata
    weights = get_model_state_dict(model)
    if not strict:
        weights = {name: weights[name] for name in weights if f"state_dict.{name}" in stored}
    _load({"state_dict": weights}, reader)
    model.load_state_dict(weights, strict=strict)
    for number, optimizer in enumerate(optimizers):
        state = get_optimizer_state_dict(model, optimizer)
        _load({f"optimizer_{number}": state}, reader)
        set_optimizer_state_dict(model, optimizer, optim_state_dict=state)
    rest: dict[str, Any] = torch.load(folder / META, map_location="cpu", weights_only=True)
    return rest | {"state_dict": weights}


def _load(state: dict[str, Any], reader: "_Reader") -> None:
    load(state, storage_reader=reader, planner=_Planner())


class _Reader(FileSystemReader):
    """Reads the index, which is a pickle, without running anything."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index.

        Raises:
            CheckpointError: it is damaged, or names anything but its own classes.
        """
        path = Path(self.path) / ".metadata"
        try:
            with path.open("rb") as file:
                metadata: Metadata = _Unpickler(file).load()
        except (AttributeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"cannot read the index of this checkpoint: {error}",
                where=str(path),
                fix="copy the folder again; what holds more than tensors is not read",
            ) from error
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _Planner(DefaultLoadPlanner):
    """Reads numbers and lists, such as learning rates, without running anything."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        # The parent unpickles whatever is there.
        plain = torch.load(value, weights_only=True)
        clean = io.BytesIO()
        torch.save(plain, clean)
        clean.seek(0)
        super().load_bytes(read_item, clean)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if (module, name) not in _KNOWN and not is_dtype:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)
