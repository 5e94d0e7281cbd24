"""Lets a model without contents compute as a quantized one does, and as on a GPU."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locvlm.models.lora import is_lora
from locvlm.models.quantization import linear_layers


def prepare(model: Any, quantization: str | None, *, mixed: bool, gpu: bool) -> None:
    """Lets the parts of a model compute as quantized ones do, and as on a GPU, in place.

    Args:
        model: encoder, adapter and language model; is of no other use afterwards.
        quantization: as in `locvlm.models.quantization.quantize`.
        mixed: whether precision is mixed.
        gpu: for a GPU. There dropout keeps a byte for each number, on a CPU a float. And in mixed
            precision peft casts inputs of LoRA beside quantized weights to float32 on a CPU only.
    """
    if quantization is not None:
        layers: list[Any] = quantized_layers(model)
        for layer in layers:
            layer.forward = partial(_quantized, layer, quantization)
    for module in model.modules():
        if gpu and type(module) is nn.Dropout and module.p > 0:
            setattr(module, "forward", partial(_dropout, module.p))  # noqa: B010
        if gpu and mixed and quantization and hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False


def quantized_layers(model: nn.Module) -> list[nn.Linear]:
    """The layers that quantization makes smaller."""
    layers = linear_layers(model.get_submodule("language_model"))
    return [layer for name, layer in layers.items() if not is_lora(f"{name}.weight")]


def _dropout(p: float, inputs: Tensor) -> Tensor:
    return torch.native_dropout(inputs, p, True)[0]


def _quantized(layer: nn.Linear, kind: str, inputs: Tensor) -> Tensor:
    if kind == "8bit":
        return _Dequantized.apply(inputs, layer.weight, layer.bias, True)
    out: Tensor = _Dequantized.apply(inputs.bfloat16(), layer.weight, layer.bias, False)
    return out.to(inputs.dtype)


class _Dequantized(torch.autograd.Function):
    """Takes what bitsandbytes does: for a moment the weights as floats, in both passes.

    In 8 bits it keeps its inputs, though the weights do not learn.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Any, keeps: bool) -> Tensor:
        """(..., in) to (..., out)."""
        ctx.weight, ctx.inputs = weight, inputs if keeps else None
        bias = None if bias is None else bias.to(inputs.dtype)
        return F.linear(inputs, torch.empty_like(weight, dtype=inputs.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        """The gradient of the inputs."""
        weight = torch.empty_like(ctx.weight, dtype=gradient.dtype)
        return gradient @ weight, None, None, None
