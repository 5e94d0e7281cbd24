"""What a training will take, found out without its weights: memory, FLOPs and time."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from locvlm.models.language import PLAIN_HEADS, embeddings, picking
from locvlm.models.loss import rows_at_once, weighted_cross_entropy
from locvlm.models.quantization import linear_layers
from locvlm.training.flops import Work
from locvlm.training.module import MakeOptimizer
from locvlm.training.strategies import blocks

# Bytes of a quantized weight and its share of the scales: one byte for 64 weights in 4 bits.
QUANTIZED = {"4bit": 0.5 + 1 / 64, "8bit": 1.0}
_BLOCK = 256  # numbers that share a scale in the 8-bit optimizer
_HALVES = {"bf16": torch.bfloat16, "16": torch.float16}


class Load(NamedTuple):
    """What one device works on in a step.

    rows:    of the batch; a packed row holds several examples, here it counts as one
    tokens:  of a row, image tokens included
    learned: of a row
    images:  of a row
    """

    rows: int
    tokens: int
    learned: int
    images: int = 1

    @property
    def work(self) -> Work:
        """What it costs, see `locvlm.training.flops.Cost`."""
        pairs = self.rows * self.tokens**2
        each = (self.images, self.tokens, self.learned)
        images, tokens, learned = (self.rows * number for number in each)
        return Work(self.rows, images, tokens, pairs, learned)


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device.

    weights:      of all parts
    gradients:    of what learns
    buckets:      copies of the gradients, for sending (DDP)
    optimizer:    its state
    update:       what the optimizer's step needs for a moment
    activations:  what the forward pass keeps for the backward pass, copies of weights in the type
                  that is computed in included; logits aside
    checkpointed: the same, where layers of the language model keep their input only and are
                  computed again when their turn comes (gradient checkpointing)
    recomputed:   what the one layer keeps whose turn it is
    logits:       of learned tokens, with their gradients
    """

    weights: int
    gradients: int
    buckets: int
    optimizer: int
    update: int
    activations: int
    checkpointed: int
    recomputed: int
    logits: int

    def peak(self, *, checkpointing: bool = False, accumulates: bool = False) -> int:
        """The most at any moment of a step.

        That is the end of the forward pass, or the optimizer's step; in between activations go as
        gradients come. Where gradients of several batches are added up they are always there.
        """
        if checkpointing:
            kept = self.checkpointed + max(self.logits, self.recomputed)
        else:
            kept = self.activations + self.logits
        forward = kept + accumulates * self.gradients
        always = self.weights + self.optimizer + self.buckets
        return always + max(forward, self.gradients + self.update)

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
        return replace(self, **shares, buckets=0)


def memory(
    model: nn.Module,
    optimizer: MakeOptimizer,
    load: Load,
    *,
    precision: str = "32-true",
    quantization: str | None = None,
) -> Memory:
    """What training a model takes on one device that holds all of it.

    Nothing is estimated from formulas: a forward pass and an optimizer's step run on tensors
    without contents, and what they keep is counted. So it holds for any architecture.

    Args:
        model: encoder, adapter and language model on the meta device, with what learns set; its
            tensors become `FakeTensor`s.
        optimizer: as in `LocVLMModule`.
        load: of a step.
        precision: Lightning's, such as `bf16-mixed`.
        quantization: of the language model's linear layers, see `locvlm.models.quantization`.
    """
    kind, _, scope = str(precision).partition("-")
    half = _HALVES.get(kind)
    if half is not None and scope == "true":
        model.to(half)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        model.get_submodule("language_model").tie_weights()  # type: ignore[operator]
        state, update = _optimizer(model, optimizer)
        with torch.autocast("cpu", half, enabled=half is not None and scope == "mixed"):
            one, two = (_kept(model, load._replace(rows=rows)) for rows in (1, 2))
    # All is linear in the rows, but for what is kept once: copies of weights.
    once = [2 * a - b for a, b in zip(one, two, strict=True)]
    row = [b - a for a, b in zip(one, two, strict=True)]
    other, logits, hidden, *layers = (c + r * load.rows for c, r in zip(once, row, strict=True))
    copies = sum(once[3:])
    recomputed = max((r * load.rows for r in row[3:]), default=0)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Memory(
        weights=weights(model, quantization),
        gradients=sum(parameter.nbytes for parameter in learning),
        buckets=0,
        optimizer=state,
        update=update,
        activations=other + sum(layers),
        checkpointed=other + copies + len(layers) * hidden,
        recomputed=recomputed,
        logits=logits,
    )


def weights(model: nn.Module, quantization: str | None = None) -> int:
    """Bytes of a model's weights."""
    total = sum(parameter.nbytes for parameter in model.parameters())
    if quantization is None:
        return total
    layers = linear_layers(model.get_submodule("language_model")).values()
    frozen = [layer.weight for layer in layers if not layer.weight.requires_grad]
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


def _kept(model: Any, load: Load) -> list[int]:
    """Bytes that a forward pass keeps.

    Returns:
        What is outside of the layers, logits, one hidden state, and what each layer keeps.
    """
    encoder, language = model.encoder, model.language_model
    pixels = torch.empty(load.rows * load.images, 3, encoder.image_size, encoder.image_size)
    marks: list[int] = []

    def pick(hidden: Tensor) -> Tensor:
        marks.append(kept())
        n_rows = load.rows * load.learned
        if language.config.model_type in PLAIN_HEADS:
            n_rows = min(n_rows, rows_at_once(language.get_output_embeddings()))
        return hidden.flatten(0, 1)[:n_rows][None]

    with _keeping(model) as kept:
        with torch.set_grad_enabled(any(p.requires_grad for p in encoder.parameters())):
            features = encoder(pixels)
        if not load.tokens:  # a stage that trains the encoder alone
            return [kept(), 0, 0]
        images = model.adapter(features)
        words = embeddings(language)(torch.zeros(load.rows, load.tokens, dtype=torch.long))
        places = torch.zeros(load.rows, load.tokens, 1, dtype=torch.bool)
        inputs = words.masked_scatter(places, images.to(words.dtype))
        first = kept()
        hooks = [
            block.register_forward_hook(lambda *_: marks.append(kept()))
            for block in blocks(model)[len(encoder.vit.blocks) :]
        ]
        with picking(language, pick):
            logits = language(inputs_embeds=inputs, use_cache=False).logits[0]
        labels = torch.zeros(len(logits), dtype=torch.long)
        weighted_cross_entropy(logits, labels, torch.ones(len(logits)))
        total = kept()
        for hook in hooks:
            hook.remove()
    *ends, last = marks
    layers = [end - start for start, end in zip([first, *ends], ends, strict=False)]
    # Their gradients, in float32 and in their own type, before the first of them can go.
    gradients = logits.numel() * 4 + (logits.dtype != torch.float32) * logits.nbytes
    return [last - sum(layers), total - last + gradients, inputs.nbytes, *layers]


@contextmanager
def _keeping(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Counts what is kept for the backward pass, each storage once and no weights."""
    own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        # transformers makes a mask, (B, 1, T, T), only where it cannot look at positions, as here.
        is_mask = tensor.ndim == 4 and tensor.shape[1] == 1 and tensor.shape[2] == tensor.shape[3]
        if storage._cdata not in own and not is_mask:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in kept.values())
