from functools import partial

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from locvlm.data.collate import collate
from locvlm.models.lora import add_lora
from locvlm.training import MuonAdamW, adamw, adamw8bit
from locvlm.training.flops import Work
from locvlm.training.module import train_only
from locvlm.training.plan import Load, Memory, gathered, hours, memory, weights
from tests.tiny import dialogue, make_model, make_processor, make_sample

ROWS = 16
SIZES = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4}
ALL = ("encoder", "adapter", "language_model")


def on_all(named, foreach=False):
    """AdamW as on a GPU, where it works on all tensors at once."""
    return torch.optim.AdamW([parameter for _, parameter in named], lr=1e-3, foreach=foreach)


def prepared(trained, device="cpu"):
    with torch.device(device):
        model = make_model(**SIZES)
        parts = nn.ModuleDict(dict(model.named_children())) if device == "meta" else model
        if "lora" in trained:
            add_lora(parts, rank=4, alpha=8)
    train_only(parts, trained)
    return parts


def batch():
    processor = make_processor()
    example = processor.encode(make_sample(), dialogue() * 4)
    made = collate([example] * ROWS, pad_id=0)
    learned = int((made["labels"][0, 1:] >= 0).sum())
    return made, Load(ROWS, made["input_ids"].shape[1], learned)


class Live(TorchDispatchMode):
    """Follows which tensors' storages live, and how many bytes they have at most."""

    def __init__(self, *tensors):
        super().__init__()
        self.storages = {}
        self.total = self.peak = 0
        self.add(tensors)

    def add(self, tensors):
        for tensor in tensors:
            storage = tensor.untyped_storage()
            _, before = self.storages.get(storage._cdata, (None, 0))
            self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            self.total += storage.nbytes() - before
        if self.total > self.peak:  # only then does it matter which of them are gone
            alive = {key: one for key, one in self.storages.items() if not one[0].expired()}
            self.storages, self.total = alive, sum(size for _, size in alive.values())
            self.peak = max(self.peak, self.total)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.add(leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        return out


def measured(trained, half, recompute):
    """The most bytes of tensors at any moment of a training step."""
    model = prepared(trained)
    if recompute:
        for layer in model.language_model.model.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    inputs, _ = batch()
    optimizer = on_all([p for p in model.named_parameters() if p[1].requires_grad], foreach=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = model(**inputs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # its state is there from now on
    state = [tensor for one in optimizer.state.values() for tensor in one.values()]
    with Live(*model.parameters(), *model.buffers(), *state) as live:
        step()
    return live.peak


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "trained", [("adapter",), ("adapter", "lora"), ("adapter", "language_model"), ALL]
)
@pytest.mark.parametrize(("recompute", "error"), [(False, 0.06), (True, 0.26)])
def test_the_peak_is_what_a_real_step_takes(trained, half, recompute, error):
    _, load = batch()
    precision = "bf16-mixed" if half else "32-true"
    planned = memory(prepared(trained, "meta"), on_all, load, precision=precision)
    ours = planned.peak(checkpointing=recompute)
    expected = measured(trained, half, recompute)
    assert ours == pytest.approx(expected, rel=error)


def test_weights_gradients_and_state_are_exact():
    planned = memory(prepared(ALL, "meta"), on_all, batch()[1])
    model = prepared(ALL)
    loss = model(**batch()[0])
    loss.backward()
    used = [p for p in model.parameters() if p.grad is not None]
    unused = sum(p.nbytes for p in model.parameters() if p.grad is None)  # the encoder's last block
    assert planned.weights == sum(p.nbytes for p in model.parameters())
    assert planned.gradients == sum(p.grad.nbytes for p in used) + unused
    steps = 4 * len(list(model.parameters()))
    assert planned.optimizer == 2 * planned.weights + steps


@pytest.mark.parametrize(
    ("make", "bytes_per_weight"),
    [
        (partial(adamw, lr=1e-3), 8),
        (partial(adamw8bit, lr=1e-3), 2 + 8 / 256),
        (partial(MuonAdamW, lr=1e-3, adamw_lr=1e-3), 4),
    ],
)
def test_optimizers_keep_what_they_say(make, bytes_per_weight):
    parts = prepared(("language_model",), "meta")
    for name, parameter in parts.named_parameters():
        parameter.requires_grad_(name.startswith("language") and "proj" in name)
    total = sum(p.numel() for p in parts.parameters() if p.requires_grad)
    planned = memory(parts, make, batch()[1]).optimizer
    assert planned == pytest.approx(bytes_per_weight * total, rel=0.01)


def test_more_rows_take_more_activations_and_nothing_else():
    parts = [prepared(("adapter", "language_model"), "meta") for _ in range(2)]
    one, ten = (memory(p, on_all, Load(n, 50, 10)) for p, n in zip(parts, (1, 10), strict=True))
    assert ten.activations == pytest.approx(10 * one.activations, rel=0.02)  # but for positions
    assert ten.logits == pytest.approx(10 * one.logits, rel=0.02)
    assert (ten.weights, ten.optimizer) == (one.weights, one.optimizer)


def test_a_stage_without_text_keeps_the_encoders_activations_alone():
    planned = memory(prepared(("encoder",), "meta"), on_all, Load(4, 0, 0))
    assert planned.activations > 0
    assert planned.logits == planned.recomputed == 0


def test_quantized_layers_take_a_fraction():
    parts = prepared(("adapter", "lora"), "meta")
    whole, small = weights(parts), weights(parts, "4bit")
    layers = 4 * (4 * 64 * 64 + 3 * 64 * 176)
    assert whole - small == round(layers * (4 - 0.5 - 1 / 64))


def test_the_peak_is_the_highest_of_its_moments():
    held = Memory(
        weights=1000,
        gradients=100,
        buckets=0,
        optimizer=2000,
        update=50,
        activations=400,
        checkpointed=40,
        recomputed=20,
        logits=10,
    )
    assert held.peak() == 3000 + 400 + 10
    assert held.peak(accumulates=True) == 3000 + 400 + 10 + 100
    assert held.peak(checkpointing=True) == 3000 + 100 + 50
    assert held.peak(checkpointing=True, accumulates=True) == 3000 + 40 + 20 + 100


def test_sharding_divides_all_but_activations():
    parts = prepared(("adapter", "language_model"), "meta")
    planned = memory(parts, on_all, Load(2, 50, 10))
    shard = planned.sharded(4, gathered(parts))
    assert shard.optimizer == planned.optimizer / 4
    assert shard.weights == planned.weights / 4 + gathered(parts)
    assert shard.activations == planned.activations
    assert 0 < gathered(parts) < planned.weights


def test_time_follows_from_flops():
    assert hours(3600e12, n_devices=2, peak=1e12, mfu=0.5) == 1
    assert Load(2, 30, 5, images=3).work == Work(2, 6, 60, 1800, 10)
