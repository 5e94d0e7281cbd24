from functools import partial

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from locvlm.data.collate import collate
from locvlm.models.lora import add_lora
from locvlm.models.quantization import quantize
from locvlm.training import MuonAdamW, adamw, adamw8bit, step
from locvlm.training.flops import Work
from locvlm.training.module import train_only
from locvlm.training.plan import Memory, gathered, hours, memory, weights
from locvlm.training.step import Load, Step
from locvlm.training.strategies import checkpoint_activations
from tests.tiny import dialogue, make_model, make_processor, make_sample

ROWS = 16
SIZES = {"hidden_size": 64, "intermediate_size": 192}
ALL = ("encoder", "adapter", "language_model")


def on_all(named, foreach=False):
    """AdamW as on a GPU, where it works on all tensors at once."""
    return torch.optim.AdamW([parameter for _, parameter in named], lr=1e-3, foreach=foreach)


def prepared(trained, device="cpu", n_layers=4, quantization=None):
    with torch.device(device):
        model = make_model(**SIZES, num_hidden_layers=n_layers)
        parts = nn.ModuleDict(dict(model.named_children())) if device == "meta" else model
        if quantization is not None:
            quantize(model, quantization).to("cpu")
        if "lora" in trained or "dropout" in trained:
            add_lora(parts, rank=4, alpha=8, dropout=0.1 * ("dropout" in trained))
    train_only(parts, [name.replace("dropout", "lora") for name in trained])
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


def measured(trained, half, recompute, quantization=None):
    """The most bytes of tensors at any moment of a training step."""
    model = prepared(trained, quantization=quantization)
    if recompute:
        checkpoint_activations(model)
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
def test_the_peak_is_what_a_real_step_takes(trained, half):
    _, load = batch()
    precision = "bf16-mixed" if half else "32-true"
    planned = memory(prepared(trained, "meta"), on_all, load, precision=precision, gpu=False)
    for recompute in (False, True):
        expected = measured(trained, half, recompute)
        assert planned.peak(checkpointing=recompute) == pytest.approx(expected, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    ("trained", "kind"),
    # With the language model frozen, 8 bits keep columns of large inputs too. Here most are large.
    [(("adapter",), "4bit"), (("adapter", "dropout"), "4bit"), (("adapter", "dropout"), "8bit")],
)
def test_the_peak_is_what_a_step_beside_quantized_weights_takes(trained, kind, half):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    parts, precision = prepared(trained, "meta"), "bf16-mixed" if half else "32-true"
    load = batch()[1]
    planned = memory(parts, on_all, load, precision=precision, quantization=kind, gpu=False)
    for recompute in (False, True):
        expected = measured(trained, half, recompute, kind)
        assert planned.peak(checkpointing=recompute) == pytest.approx(expected, rel=0.02)


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
    assert 2 * one.logits < ten.logits < 10.1 * one.logits  # the gradients of the head are once
    assert (ten.weights, ten.optimizer) == (one.weights, one.optimizer)


@pytest.mark.parametrize("trained", [("adapter", "lora"), ("adapter", "language_model")])
def test_blocks_that_are_alike_need_not_all_run(trained, monkeypatch):
    few = memory(prepared(trained, "meta", 6), on_all, Load(2, 40, 10), precision="bf16-mixed")
    monkeypatch.setattr(step, "_FEW", 6)
    assert (
        memory(prepared(trained, "meta", 6), on_all, Load(2, 40, 10), precision="bf16-mixed") == few
    )


def test_blocks_of_two_kinds_all_run():
    parts = prepared(("adapter", "language_model"), "meta", 6)
    whole = memory(parts, on_all, Load(2, 40, 10))
    parts = prepared(("adapter", "language_model"), "meta", 6)
    parts.language_model.model.layers[1].requires_grad_(False)
    assert memory(parts, on_all, Load(2, 40, 10)).activations < whole.activations


def test_a_stage_without_text_keeps_the_encoders_activations_alone():
    planned = memory(prepared(("encoder",), "meta"), on_all, Load(4, 0, 0))
    assert planned.activations > 0
    assert planned.logits == 0


def kept(trained, **options):
    return memory(prepared(trained, "meta"), on_all, Load(2, 40, 10), **options).activations


def test_eight_bits_keep_inputs_and_a_gpu_keeps_less_of_dropout():
    trained = ("adapter", "dropout")  # without it LoRA keeps the same inputs
    assert kept(trained, quantization="8bit") > kept(trained, quantization="4bit")
    assert kept(trained) < kept(trained, gpu=False)


def test_quantized_layers_take_a_fraction():
    parts = prepared(("adapter", "lora"), "meta")
    whole, small = weights(parts), weights(parts, "4bit")
    layers = 4 * (4 * 64 * 64 + 3 * 64 * 192)
    assert whole - small == round(layers * (4 - 0.5 - 1 / 64))


def test_the_peak_is_the_highest_of_its_moments():
    held = Memory(
        weights=1000,
        gradients=100,
        buckets=0,
        optimizer=2000,
        update=50,
        whole=Step(activations=400, logits=10, apart=450, together=460),
        recomputing=Step(activations=40, logits=10, apart=60, together=90),
    )
    assert held.peak() == 3000 + 460
    assert held.peak(accumulates=True) == 3000 + 450 + 100
    assert held.peak(checkpointing=True) == 3000 + 100 + 50
    assert held.peak(checkpointing=True, accumulates=True) == 3000 + 60 + 100
    assert held.sharded(4, 30).peak() == 250 + 30 + 500 + 450 + 3


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
