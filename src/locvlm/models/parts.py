"""Language models too large for one process: built empty, then each process reads its part."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from locvlm.errors import CheckpointError
from locvlm.models.attention import attend_by_example
from locvlm.models.files import FILES, Found, read, read_folder
from locvlm.models.language import cannot_load, check_vocabulary, pretrained
from locvlm.models.locvlm import LocVLM
from locvlm.models.weights import fill_later, own_tensors, unread

logger = logging.getLogger(__name__)


def empty(
    path: str, dtype: str = "auto", attention: str | None = None, vocab_size: int = 0
) -> PreTrainedModel:
    """As `pretrained`, but without its weights, which `read_parts` reads later.

    Those that transformers reads under other names than the model's own are loaded at once: they
    are changed on the way.

    Args:
        path: as in `pretrained`, and so are `dtype`, `attention` and `vocab_size`.
        dtype: of the weights.
        attention: transformers' `attn_implementation`.
        vocab_size: number of token ids that the model must know.

    Raises:
        CheckpointError: as in `pretrained`.
    """
    try:
        folder = _folder(path)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ImportError, OSError, ValueError) as error:
        raise cannot_load(path, error) from error
    config.name_or_path = path
    kind = (config.dtype or torch.float32) if dtype == "auto" else dtype
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention, dtype=kind
        )
    check_vocabulary(model, vocab_size, path)
    found, wanted = read_folder(folder), own_tensors(model)
    if not wanted.keys() <= found.keys():
        logger.warning("%s has weights of other names: each process loads all of them", path)
        return pretrained(path, dtype, attention, vocab_size)
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{name} is {tuple(found[name].shape)}, the model's is {tuple(tensor.shape)}",
                where=str(folder),
            )
        fill_later(tensor, found[name])
    return model if attention else attend_by_example(model)


@torch.no_grad()
def read_parts(model: LocVLM, found: Mapping[str, Found] | None = None) -> None:
    """Gives a model the values that it was built without; each process reads its own rows.

    Args:
        model: sharded or not; its encoder and adapter are there.
        found: where they are; None: `unread(model)`, of a model that is not sharded.
    """
    found = unread(model) if found is None else found
    if not found:
        return
    names = _by_tensor(model)
    # Called on the whole model: FSDP must hear that its parameters are others now.
    device = next(model.adapter.parameters()).device
    model._apply(lambda one: torch.empty_like(one, device=device) if one.is_meta else one)
    for first, *others in names:  # such as the head, where it is the table of embeddings
        for name in others:
            place, _, own = name.rpartition(".")
            setattr(model.get_submodule(place), own, model.get_parameter(first))
    _compute_buffers(model.language_model)
    for name, tensor in own_tensors(model).items():
        if name in found:
            _read(tensor, found[name])


def _folder(path: str) -> Path:
    """A local folder as it is; that of a hub id in the hub's cache, downloaded if need be."""
    folder = Path(path)
    if folder.is_dir():
        return folder
    for name in FILES:  # not all at once: many repositories have their weights in both kinds
        stem, ending = name.split(".")
        wanted = ["config.json", f"{stem}*.{ending}", f"{name}.index.json"]
        folder = Path(snapshot_download(path, allow_patterns=wanted))
        if any((folder / one).is_file() for one in (name, f"{name}.index.json")):
            break
    return folder


def _by_tensor(model: nn.Module) -> list[list[str]]:
    """The names of each parameter; tied ones have several."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return list(names.values())


def _compute_buffers(language_model: Any) -> None:
    """Computes what is in no file, such as the frequencies of rotary embeddings."""
    for module in language_model.modules():
        if module._non_persistent_buffers_set:
            for parameter in module.parameters(recurse=False):
                parameter._is_hf_initialized = True  # leaves it as it is
            language_model._init_weights(module)


def _read(tensor: Tensor, found: Found) -> None:
    if not isinstance(tensor, DTensor):
        tensor.data = read(found).to(tensor)  # of one type, safetensors' stay in their mapped file
        return
    local = tensor.to_local()
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    if local.numel():
        local.copy_(read(found, slice(offset[0], offset[0] + shape[0])))
