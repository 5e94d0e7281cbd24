"""Quantization of the language model to 4 or 8 bits, by bitsandbytes."""

import logging
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from locvlm.errors import ConfigError
from locvlm.models.files import read
from locvlm.models.locvlm import LocVLM
from locvlm.models.weights import whole

# Layers of bitsandbytes and types of their weights, by name: it takes seconds to import.
_WEIGHTS = {"Linear4bit": "Params4bit", "Linear8bitLt": "Int8Params"}
_BLOCK = 64  # weights that share a scale in 4 bits


def quantize(model: LocVLM, kind: str) -> LocVLM:
    """Quantizes the linear layers of a model's language model, but for its head, in place.

    bitsandbytes does it as the model moves to its device, and on that device: call `model.to`
    before you use it, on a CPU too (Lightning does). Quantized weights do not learn; LoRA beside
    them does.

    Args:
        model: whose language model is made smaller.
        kind: `4bit` (NF4, its scales quantized too, computed in bfloat16) or `8bit` (LLM.int8()).

    Raises:
        ConfigError: there is no such kind, bitsandbytes is missing, the model is quantized or has
            LoRA already, or a layer has the wrong width for 4 bits.

    Source: Dettmers et al., QLoRA, NeurIPS 2023; LLM.int8(), NeurIPS 2022.
    """
    kinds = {"4bit": _to_4bit, "8bit": _to_8bit}
    if kind not in kinds:
        raise ConfigError(
            f"no quantization {kind!r}",
            where="quantization",
            fix=f"choose from {', '.join(kinds)}; null leaves the weights as they are",
        )
    layers = linear_layers(model.language_model)
    if any(".lora_A." in name or is_quantized(layer) for name, layer in layers.items()):
        raise ConfigError(
            "the language model is quantized or has LoRA already",
            where="quantization",
            fix="quantize once, and before LoRA is added: it is made for the layers that it finds",
        )
    bnb = bitsandbytes()
    made = {name: kinds[kind](bnb, layer) for name, layer in layers.items()}
    for name, layer in made.items():
        model.language_model.set_submodule(name, layer)
    return model


def linear_layers(language_model: Any) -> dict[str, nn.Linear]:
    """The linear layers of a language model by name, without its head."""
    head = language_model.get_output_embeddings()
    return {
        name: layer
        for name, layer in language_model.named_modules()
        if isinstance(layer, nn.Linear) and layer is not head
    }


@torch.no_grad()
def quantize_parts(part: nn.Module, device: torch.device) -> None:
    """Quantizes on a device, in place, what `quantize` has left to be quantized.

    A weight that is not there yet is read or drawn only now, and is a plain tensor of bytes from
    then on, which can be sharded: floats of the weights are whole for one layer at a time.

    Args:
        part: of a model.
        device: to quantize on.

    Raises:
        ConfigError: it has layers of 8 bits, whose scales cannot be sharded.
    """
    for layer in filter(is_quantized, part.modules()):
        weight: Any = layer.weight
        if weight_kind(layer) != "Params4bit":
            raise ConfigError(
                "weights of 8 bits cannot be sharded",
                where="quantization, trainer.strategy",
                fix="give quantization=4bit, or trainer=ddp, or leave out quantization",
            )
        if not weight.is_floating_point():
            continue
        found = weight.found if weight.is_meta else weight.data.as_subclass(Tensor)
        values = read(found).to(device, weight.dtype)
        packed = _nf4(bitsandbytes(), values, layer).to(device)  # leaves its scales in the layer
        layer.weight = nn.Parameter(packed.data.as_subclass(Tensor), requires_grad=False)


def is_quantized(layer: nn.Module) -> bool:
    """Whether this is a layer that `quantize` made."""
    kind = type(layer)
    return kind.__name__ in _WEIGHTS and kind.__module__.startswith("bitsandbytes.")


def weight_kind(layer: nn.Module) -> str:
    """The type of a layer's weight, whether it is sharded or not."""
    return _WEIGHTS[type(layer).__name__] if is_quantized(layer) else "Parameter"


@torch.no_grad()
def dequantized(layer: Any) -> Tensor:
    """The weight with which a linear layer computes, quantized or not, as floats.

    Where it is sharded all processes must ask for it; of a quantized one they get all of it.
    """
    if not is_quantized(layer) or layer.weight.is_floating_point():  # the latter: not moved yet
        # As a plain tensor: a weight of bitsandbytes is quantized wherever it is moved.
        weight: Tensor = layer.weight.data.as_subclass(Tensor)
        return weight
    bnb = bitsandbytes()
    if weight_kind(layer) == "Params4bit":
        return bnb.functional.dequantize_4bit(whole(layer.weight.data), layer.quant_state)
    # The first forward pass moves the scales from the weight to the layer's state.
    scales = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
    return bnb.functional.int8_vectorwise_dequant(layer.weight.data, scales.to(layer.weight.device))


def bitsandbytes() -> Any:
    """The library, imported where it is used: it takes seconds.

    Raises:
        ConfigError: it is not installed, or not for this machine.
    """
    # It tells stderr what its CPU code lacks, and in 8 bits once per layer that inputs are cast.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise ConfigError(
            f"bitsandbytes cannot be used here: {error}",
            where="quantization, optimizer",
            fix="pip install bitsandbytes, or leave out what needs it",
        ) from error
    library: ModuleType = bnb
    return library


def _to_4bit(bnb: Any, layer: nn.Linear) -> nn.Module:
    if layer.in_features % _BLOCK:
        # A block would go on in the next row, which bitsandbytes' code for CPUs reads wrongly.
        raise ConfigError(
            f"a layer with inputs of width {layer.in_features}",
            where="quantization",
            fix=f"4bit needs widths that {_BLOCK} divides; give 8bit, or null",
        )
    with torch.device("meta"):
        new = bnb.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            compute_dtype=torch.bfloat16,
            compress_statistics=True,
            quant_type="nf4",
        )
    new.weight = _nf4(bnb, layer.weight.data, new)
    if layer.weight.is_meta and hasattr(layer.weight, "found"):
        new.weight.found = layer.weight.found  # see quantize_parts
    # On CPUs with AVX512-BF16 the first answer in evaluation mode would repack the weights, and
    # gradients would silently be lost from then on.
    new.support_avx512bf16_for_cpu = False
    return _with_bias(new, layer)


def _nf4(bnb: Any, values: Tensor, layer: Any) -> Any:
    return bnb.nn.Params4bit(values, compress_statistics=True, quant_type="nf4", module=layer)


def _to_8bit(bnb: Any, layer: nn.Linear) -> nn.Module:
    with torch.device("meta"):
        new = bnb.nn.Linear8bitLt(
            layer.in_features,
            layer.out_features,
            bias=layer.bias is not None,
            has_fp16_weights=False,
            threshold=6.0,  # of the paper
        )
    new.weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False)
    return _with_bias(new, layer)


def _with_bias(new: nn.Module, layer: nn.Linear) -> nn.Module:
    new.bias = layer.bias
    return new.train(layer.training)
