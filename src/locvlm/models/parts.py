"""Language models too large for one process: built empty, then each process gets its part."""

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
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from locvlm.errors import CheckpointError
from locvlm.models.attention import attend_by_example
from locvlm.models.drawn import drawing_later
from locvlm.models.files import FILES, Found, read, read_folder
from locvlm.models.language import cannot_load, check_vocabulary, fresh, pretrained
from locvlm.models.locvlm import LocVLM
from locvlm.models.weights import fill_later, own_tensors, unread

logger = logging.getLogger(__name__)


def empty(
    path: str, dtype: str = "auto", attention: str | None = None, vocab_size: int = 0
) -> PreTrainedModel:
    """As `pretrained`, but without its weights, which `read_parts` reads later.

    Those that transformers makes of others, such as experts that it stacks, are loaded at once.

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
    found, wanted = _named_as(model, read_folder(folder)), own_tensors(model)
    if not wanted.keys() <= found.keys():
        logger.warning("%s has weights that change on the way: each process loads all", path)
        return pretrained(path, dtype, attention, vocab_size)
    for name, tensor in wanted.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{name} is {tuple(found[name].shape)}, the model's is {tuple(tensor.shape)}",
                where=str(folder),
            )
        fill_later(tensor, found[name])
    return model if attention else attend_by_example(model)


def undrawn(architecture: str = "llama", **options: Any) -> PreTrainedModel:
    """As `fresh`, but without its weights, which `read_parts` draws later, with the same values.

    Each process draws all of them, one tensor after the other, and keeps its rows. Where weights
    are made of the values of others, as Mamba's are, the model is drawn at once.

    Args:
        architecture: as in `fresh`.
        options: the other arguments of `fresh`.

    Raises:
        ConfigError: as in `fresh`.
    """
    state = torch.get_rng_state()
    try:
        with drawing_later():
            return fresh(architecture, **options)
    except RuntimeError:
        logger.warning("a %s makes weights of others: each process draws all of them", architecture)
        torch.set_rng_state(state)
        return fresh(architecture, **options)


@torch.no_grad()
def read_parts(model: LocVLM, found: Mapping[str, Found] | None = None) -> None:
    """Gives a model the values that it was built without; each process keeps its own rows.

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


def _named_as(model: PreTrainedModel, found: Mapping[str, Found]) -> dict[str, Found]:
    """Weights under the names that they have in a model, by the rules of transformers.

    A GPT-2 file lacks the prefix `transformer.`, for one. What is changed on the way is left out.
    """
    rules = get_model_conversion_mapping(model)
    renaming = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    changing = [rule for rule in rules if isinstance(rule, WeightConverter)]
    own = model.state_dict()
    named = {}
    for name, one in found.items():
        new, change = rename_source_key(name, renaming, changing, model.base_model_prefix, own)
        if change is None:
            named[new] = one
    return named


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
