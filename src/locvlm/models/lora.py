"""LoRA: small matrices that learn beside the language model's own weights, by peft."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from locvlm.errors import CheckpointError, ConfigError
from locvlm.io import read_json, sha256, write_json
from locvlm.models.locvlm import LocVLM
from locvlm.models.quantization import dequantized, is_quantized, linear_layers, weight_kind
from locvlm.models.weights import first_values, whole

FOLDER = "lora"  # beside the weights of a saved model, in peft's format
WEIGHTS = "adapter_model.safetensors"
_NAME = "default"  # peft can hold several; there is one here
_OWN = "language_model."
_PEFT = "base_model.model."
_SAMPLE = 64  # weights of each tensor that tell one language model from another


def add_lora(
    model: LocVLM,
    *,
    rank: int,
    alpha: int,
    dropout: float = 0.0,
    targets: Sequence[str] | None = None,
) -> LocVLM:
    """Adds LoRA to linear layers of a model's language model, in place; it says the same as before.

    A layer W then computes W x + alpha / rank * B A dropout(x), where B begins at 0. A and B are
    float32, whatever W is, and begin alike whether W has been read by now or will be later.

    Args:
        model: whose language model gets LoRA; quantized or not.
        rank: rows of A, columns of B.
        alpha: see above.
        dropout: probability, 0 to 1; in training only.
        targets: last parts of layers' names, such as `q_proj`; None: all linear layers but the
            head.

    Raises:
        ConfigError: `rank` is below 1, a target matches no linear layer, or there is LoRA already.

    Source: Hu et al., LoRA, ICLR 2022.
    """
    if rank < 1:
        raise ConfigError(f"the rank must be at least 1, got {rank}", where="lora.rank")
    if has_lora(model):
        raise ConfigError("there is LoRA in this model already", where="lora")
    language_model = model.language_model
    chosen = _chosen(language_model, targets)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it where it is
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=chosen,
        task_type="CAUSAL_LM",
        base_model_name_or_path=language_model.name_or_path,
    )
    inject_adapter_in_model(config, language_model, adapter_name=_NAME)
    _draw(model)
    language_model.train(language_model.training)  # new dropout begins in training mode
    return model


def _chosen(language_model: Any, targets: Sequence[str] | None) -> list[str]:
    """The last parts of the names of layers that get LoRA."""
    known = sorted({name.rpartition(".")[2] for name in linear_layers(language_model)})
    if not known:
        others = {
            name.rpartition(".")[2]
            for name, layer in language_model.named_modules()
            if isinstance(layer, Conv1D)
        }
        raise ConfigError(
            f"a language model of the kind {language_model.config.model_type} gets no LoRA: beside "
            f"its head it has no nn.Linear (its {', '.join(sorted(others))} are Conv1D)",
            where="lora",
            fix="train all of it, without lora: trained=[adapter,language_model]; or choose a "
            "language model of linear layers, such as a Llama or a Qwen",
        )
    chosen = known if targets is None else list(targets)
    unknown = sorted(set(chosen) - set(known))
    if unknown or not chosen:
        raise ConfigError(
            f"the language model has no linear layers named {', '.join(unknown)}"
            if unknown
            else "no target is named",
            where="lora.targets",
            fix=f"choose from {', '.join(known)}; null means all of them",
        )
    return chosen


def is_lora(name: str) -> bool:
    """Whether a parameter of this name is a LoRA weight."""
    return ".lora_A." in name or ".lora_B." in name


def lora_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The LoRA weights by name."""
    return {name: weight for name, weight in model.named_parameters() if is_lora(name)}


def has_lora(model: nn.Module) -> bool:
    """Whether there is LoRA in a model."""
    return bool(lora_parameters(model))


def is_fixed(model: nn.Module) -> bool:
    """Whether the language model's own weights learn no more: beneath LoRA, or quantized."""
    return has_lora(model) or any(map(is_quantized, model.modules()))


def is_kept(name: str) -> bool:
    """Whether a training of a model that `is_fixed` must store the tensor of this name."""
    return is_lora(name) or not name.startswith(_OWN)


def fingerprint(model: nn.Module) -> str:
    """Tells the fixed weights beneath from those of another language model.

    It looks at some weights of each layer that is not quantized, rounded as training may round
    them, and at which layers are.
    """
    parts = []
    for place, layer in model.get_submodule("language_model").named_modules():
        for own, weight in layer.named_parameters(recurse=False):
            if is_lora(name := f"{place}.{own}"):
                continue
            kind = weight_kind(layer) if own == "weight" else "Parameter"
            parts.append(f"{name} {kind}".encode())
            if not is_quantized(layer):
                sample = first_values(weight, _SAMPLE).bfloat16().float()
                parts.append(sample.cpu().numpy().tobytes())
    return sha256(b"\n".join(parts))


def check_fixed(model: nn.Module, expected: object, where: str) -> None:
    """Refuses to go on with LoRA, or beside quantized weights, of another language model.

    Args:
        model: whose weights stay as they are.
        expected: the fingerprint that was stored.
        where: of the stored one.

    Raises:
        CheckpointError: they differ.
    """
    if fingerprint(model) != expected:
        raise CheckpointError(
            "this was trained on another language model, or on other LoRA or quantization",
            where=where,
            fix="keep model, checkpoint, seed, lora and quantization of the run that wrote it",
        )


def merged(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The weights with which a model without LoRA and quantization says the same.

    Weights that were quantized get the type of the others back. They are made one by one, for all
    together may be more than a GPU holds.

    Args:
        model: is left as it is.
        tensors: its parameters and buffers by name.
    """
    layers = _layers(model)
    inside = tuple(f"{name}." for name in layers)
    yield from (item for item in tensors.items() if not item[0].startswith(inside))
    for name, layer in layers.items():
        base = getattr(layer, "base_layer", layer)
        dtype = base.weight.dtype
        if is_quantized(base):
            dtype = model.get_submodule("language_model").dtype
        yield f"{name}.weight", _merged_weight(layer, base).to(dtype)
        if base.bias is not None:
            yield f"{name}.bias", base.bias.to(dtype)


def save_lora(model: LocVLM, parameters: Mapping[str, Tensor], folder: Path) -> None:
    """Writes `parameters` as peft does: adapter_config.json and adapter_model.safetensors."""
    configs: Any = model.language_model.peft_config
    configs[_NAME].save_pretrained(str(folder))
    config = folder / "adapter_config.json"
    settings = read_json(config)
    # peft holds a set: the same model would give other files each time.
    write_json(config, settings | {"target_modules": sorted(settings["target_modules"])})
    weights = {
        _PEFT + name.removeprefix(_OWN).replace(f".{_NAME}.", "."): weight
        for name, weight in parameters.items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    shutil.copymode(config, folder / WEIGHTS)  # as in save_model


def own_name(key: str) -> str:
    """The name of a parameter in a `LocVLM`, from its name in peft's file."""
    return _OWN + key.removeprefix(_PEFT).removesuffix("weight") + f"{_NAME}.weight"


def _draw(model: LocVLM) -> None:
    """Gives LoRA its first values: where W is not read yet, peft's are lost with those of W."""
    from peft.tuners.lora import LoraLayer

    device = next(model.encoder.parameters()).device  # a plan's stays on meta
    for layer in model.language_model.modules():
        if isinstance(layer, LoraLayer):
            for part in (layer.lora_A, layer.lora_B):
                if part[_NAME].weight.is_meta:
                    part.to_empty(device=device)
                part.float()
            layer.reset_lora_parameters(_NAME, True)


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers by name that have LoRA or are quantized; both at once count once."""
    named = dict(model.named_modules())
    with_lora = {name.rpartition(".lora_")[0] for name in lora_parameters(model)}
    quantized = {
        name.removesuffix(".base_layer") for name, layer in named.items() if is_quantized(layer)
    }
    return {name: named[name] for name in sorted(with_lora | quantized)}


@torch.no_grad()
def _merged_weight(layer: Any, base: Any) -> Tensor:
    weight = dequantized(base)
    if layer is base:
        return weight
    delta: Tensor = layer.get_delta_weight(_NAME)
    if is_quantized(base):  # gathered by now
        delta = whole(delta)
    return weight.float() + delta.float()
