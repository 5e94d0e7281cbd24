"""What a training will take, found out without its weights: memory, FLOPs and time."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from locvlm.training.module import MakeOptimizer
from locvlm.training.stand_ins import prepare, quantized_layers
from locvlm.training.step import Load, Step, trace
from locvlm.training.strategies import blocks, checkpoint_activations

# Bytes of a quantized weight and its share of the scales: one byte for 64 weights in 4 bits.
QUANTIZED = {"4bit": 0.5 + 1 / 64, "8bit": 1.0}
_BLOCK = 256  # numbers that share a scale in the 8-bit optimizer
_HALVES = {"bf16": torch.bfloat16, "16": torch.float16}


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device.

    weights:      of all parts
    gradients:    of what learns
    buckets:      copies of the gradients, for sending (DDP)
    optimizer:    its state
    update:       what the optimizer's step needs for a moment
    whole:        a step that keeps all activations
    recomputing:  one whose blocks keep their input only and are computed again when their turn
                  comes (gradient checkpointing)
    """

    weights: int
    gradients: int
    buckets: int
    optimizer: int
    update: int
    whole: Step
    recomputing: Step

    @property
    def activations(self) -> int:
        """What the forward pass keeps for the backward pass; logits aside."""
        return self.whole.activations

    @property
    def logits(self) -> int:
        """Of learned tokens, with their gradients."""
        return self.whole.logits

    def peak(self, *, checkpointing: bool = False, accumulates: bool = False) -> int:
        """The most at any moment of a step: in its two passes, or as the optimizer works.

        Where gradients of several batches are added up they are always there.
        """
        step = self.recomputing if checkpointing else self.whole
        passes = step.apart + self.gradients if accumulates else step.together
        always = self.weights + self.optimizer + self.buckets
        return always + max(passes, self.gradients + self.update)

    def sharded(self, n: int, gathered: int) -> "Memory":
        """On each of `n` devices that share weights, gradients and optimizer state (FSDP).

        Args:
            n: number of devices.
            gathered: bytes of the weights that are whole at one time.
        """
        shares = {
            name: math.ceil(getattr(self, name) / n)
            for name in ("weights", "gradients", "optimizer", "update")
        }
        shares["weights"] += gathered
        steps = {name: getattr(self, name).sharded(n) for name in ("whole", "recomputing")}
        return replace(self, **shares, **steps, buckets=0)


def memory(
    model: nn.Module,
    optimizer: MakeOptimizer,
    load: Load,
    *,
    precision: str = "32-true",
    quantization: str | None = None,
    gpu: bool = True,
) -> Memory:
    """What training a model takes on one device that holds all of it.

    Nothing is estimated from formulas: steps run on tensors without contents, and what lives is
    counted. So it holds for any architecture.

    Args:
        model: encoder, adapter and language model on the meta device, with what learns set; its
            tensors become `FakeTensor`s.
        optimizer: as in `LocVLMModule`.
        load: of a step.
        precision: Lightning's, such as `bf16-mixed`.
        quantization: of the language model's linear layers, see `locvlm.models.quantization`.
        gpu: for a GPU, which keeps less than a CPU, see `locvlm.training.stand_ins.prepare`.
    """
    kind, _, scope = str(precision).partition("-")
    half = _HALVES.get(kind)
    mixed = half if scope == "mixed" else None
    if half is not None and scope == "true":
        model.to(half)
    size = weights(model, quantization)
    learning = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    prepare(model, quantization, mixed=mixed is not None, gpu=gpu)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        model.get_submodule("language_model").tie_weights()  # type: ignore[operator]
        state, update = _optimizer(model, optimizer)
        whole = trace(model, load, mixed)
        checkpoint_activations(model)  # type: ignore[arg-type]
        recomputing = trace(model, load, mixed)
    return Memory(
        weights=size,
        gradients=learning,
        buckets=0,
        optimizer=state,
        update=update,
        whole=whole,
        recomputing=recomputing,
    )


def weights(model: nn.Module, quantization: str | None = None) -> int:
    """Bytes of a model's weights."""
    total = sum(parameter.nbytes for parameter in model.parameters())
    if quantization is None:
        return total
    frozen = [layer.weight for layer in quantized_layers(model)]
    return total + round(sum(w.numel() * QUANTIZED[quantization] - w.nbytes for w in frozen))


def gathered(model: nn.Module) -> int:
    """Bytes of weights that are whole at one time under FSDP.

    That is all that lies outside of transformer blocks, the block that computes, and the next one.
    """
    parts: Any = model
    sizes = [weights(block) for block in blocks(parts)]
    return weights(model) - sum(sizes) + 2 * max(sizes)


def hours(flops: float, n_devices: int, peak: float, mfu: float) -> float:
    """How long devices with `peak` FLOPs per second take at a utilization `mfu`, 0 to 1."""
    return flops / (n_devices * peak * mfu) / 3600


def _optimizer(model: nn.Module, make: MakeOptimizer) -> tuple[int, int]:
    """Bytes of an optimizer's state, and of what a step needs besides."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        return 0, 0
    if "8bit" in str(getattr(make, "func", make)):  # it would write into real memory
        small = sum(8 * p.numel() for _, p in named if p.numel() < 4096)
        large = sum(2 * p.numel() for _, p in named if p.numel() >= 4096)
        return small + round(large * (1 + 4 / _BLOCK)), 0
    optimizer = make(named)
    for _, parameter in named:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    tensors = [t for state in optimizer.state.values() for t in state.values()]
    size = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))
    if not isinstance(optimizer, torch.optim.AdamW) or optimizer.defaults["fused"]:
        return size, 0
    # Unless it is fused, it takes the roots of all second moments of a group at once on GPUs.
    return size, max(sum(p.nbytes for p in group["params"]) for group in optimizer.param_groups)
