"""Language models too large for one process: built empty, then each process reads its part."""

from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from locvlm.errors import CheckpointError
from locvlm.io import read_json
from locvlm.models.attention import attend_by_example
from locvlm.models.language import pretrained
from locvlm.models.locvlm import LocVLM

FILE = "model.safetensors"


def empty(
    path: str, dtype: str = "auto", attention: str | None = None, vocab_size: int = 0
) -> PreTrainedModel:
    """As `pretrained`, but without its weights where `read_parts` can read them later.

    It cannot where they are no safetensors in a local folder, or where the head is the table of
    embeddings.

    Args:
        path: as in `pretrained`, and so are `dtype`, `attention` and `vocab_size`.
        dtype: of the weights.
        attention: transformers' `attn_implementation`.
        vocab_size: number of token ids that the model must know.

    Raises:
        CheckpointError: as in `pretrained`.
    """
    whole = partial(pretrained, path, dtype, attention, vocab_size)
    if not any((Path(path) / name).is_file() for name in (FILE, f"{FILE}.index.json")):
        return whole()
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.tie_word_embeddings or vocab_size > config.vocab_size:
        return whole()
    kind = (config.dtype or torch.float32) if dtype == "auto" else dtype
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, attn_implementation=attention, dtype=kind
        )
    return model if attention else attend_by_example(model)


@torch.no_grad()
def read_parts(model: LocVLM) -> None:
    """Fills the language model that `empty` made, after it was sharded: each process its own rows.

    Raises:
        CheckpointError: a weight is missing or has another shape.
    """
    language_model = model.language_model
    unfilled = [name for name, one in language_model.named_parameters() if one.is_meta]
    if not unfilled:
        return
    folder = Path(str(language_model.name_or_path))
    # Called on the whole model: FSDP must hear that its parameters are others now.
    device = next(model.adapter.parameters()).device
    model._apply(lambda one: torch.empty_like(one, device=device) if one.is_meta else one)
    files = _files(folder)
    for name in unfilled:
        _read(language_model.get_parameter(name), name, folder / files.get(name, FILE))
    for module in language_model.modules():
        if module._non_persistent_buffers_set:  # in no file: the frequencies of rotary embeddings
            language_model._init_weights(module)


def _files(folder: Path) -> dict[str, str]:
    """The file of each weight, where there are several."""
    index = folder / f"{FILE}.index.json"
    if not index.is_file():
        return {}
    # Only the last part of a name: an index must not lead out of its folder.
    return {name: Path(file).name for name, file in read_json(index)["weight_map"].items()}


def _read(tensor: Tensor, name: str, path: Path) -> None:
    rows, shape = slice(None), tuple(tensor.shape)
    local = tensor
    if isinstance(tensor, DTensor):
        local = tensor.to_local()
        own, offset = compute_local_shape_and_global_offset(
            tensor.shape, tensor.device_mesh, tensor.placements
        )
        rows = slice(offset[0], offset[0] + own[0])
    with safe_open(path, "pt") as file:
        if name not in file.keys():  # noqa: SIM118 - a file of safetensors is no dict
            raise CheckpointError(f"it lacks {name}", where=str(path))
        stored = file.get_slice(name)
        if tuple(stored.get_shape()) != shape:
            raise CheckpointError(
                f"{name} is {tuple(stored.get_shape())}, the model's is {shape}", where=str(path)
            )
        if local.numel():
            local.copy_(stored[rows])
