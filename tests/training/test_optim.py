from functools import partial

import pytest
import torch
from torch import nn

from locvlm.errors import ConfigError
from locvlm.training import LocVLMModule
from locvlm.training.optim import MuonAdamW, adamw, adamw8bit, cosine, wsd
from tests.tiny import make_model


class Net(nn.Module):
    """One of each kind of parameter."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(5, 8)
        self.hidden = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3, bias=False)

    def forward(self, ids):
        return self.head(self.norm(self.hidden(self.embed(ids))))


def learn(net, optimizer, scheduler, n_steps):
    losses = []
    for _ in range(n_steps):
        loss = nn.functional.cross_entropy(net(torch.arange(3)), torch.arange(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def muon(net):
    return MuonAdamW(list(net.named_parameters()), lr=0.02, adamw_lr=0.01)


def names_of(group):
    return set(group["param_names"])


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest():
    hidden, rest = muon(Net()).param_groups
    assert names_of(hidden) == {"hidden.weight"}
    assert names_of(rest) == {
        "embed.weight",
        "hidden.bias",
        "norm.weight",
        "norm.bias",
        "head.weight",
    }


def test_in_a_whole_model_muon_takes_the_layers_matrices_only():
    model = make_model()
    optimizer = MuonAdamW(list(model.named_parameters()), lr=0.02, adamw_lr=0.01)
    hidden = names_of(optimizer.param_groups[0])
    assert all(".blocks." in name or ".layers." in name for name in hidden)
    assert len(hidden) == 3 * 4 + 2 * 7
    n_parameters = sum(len(group["params"]) for group in optimizer.param_groups)
    assert n_parameters == len(list(model.parameters()))


def test_each_optimizer_takes_the_step_that_it_would_take_alone():
    net, alone = Net(), Net()
    ours = muon(net)
    theirs = [
        torch.optim.Muon([alone.hidden.weight], lr=0.02, weight_decay=0.0),
        torch.optim.AdamW(
            [p for name, p in alone.named_parameters() if name != "hidden.weight"],
            lr=0.01,
            betas=(0.9, 0.95),
            weight_decay=0.0,
        ),
    ]
    for _ in range(3):
        for model, optimizers in ((net, [ours]), (alone, theirs)):
            model.zero_grad()
            nn.functional.cross_entropy(model(torch.arange(3)), torch.arange(3)).backward()
            for optimizer in optimizers:
                optimizer.step()
    for ours_p, theirs_p in zip(net.parameters(), alone.parameters(), strict=True):
        assert torch.equal(ours_p, theirs_p)


def test_a_stored_state_goes_on_as_if_never_stopped(tmp_path):
    net = Net()
    optimizer = muon(net)
    scheduler = wsd(optimizer, 20)
    learn(net, optimizer, scheduler, 8)
    state = {"net": net, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({key: value.state_dict() for key, value in state.items()}, tmp_path / "state.pt")
    expected = learn(net, optimizer, scheduler, 8)

    again = Net()
    restored = {"net": again, "optimizer": muon(again)}
    restored["scheduler"] = wsd(restored["optimizer"], 20)
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    for key, value in restored.items():
        value.load_state_dict(stored[key])
    assert learn(again, restored["optimizer"], restored["scheduler"], 8) == expected


def test_muon_works_where_there_is_nothing_for_one_of_the_two():
    linear = nn.Linear(4, 4)
    only_adamw = MuonAdamW([("adapter.weight", linear.weight)], lr=0.02, adamw_lr=0.01)
    assert [group["lr"] for group in only_adamw.param_groups] == [0.01]
    only_muon = MuonAdamW([("weight", linear.weight)], lr=0.02, adamw_lr=0.01)
    assert [group["lr"] for group in only_muon.param_groups] == [0.02]


def test_a_closure_is_called_once():
    net = Net()
    calls = []

    def closure():
        loss = net(torch.arange(3)).sum()
        loss.backward()
        calls.append(loss.item())
        return loss.item()

    assert muon(net).step(closure) == calls[0]
    assert len(calls) == 1


def test_adamw_spares_norms_and_biases_the_decay():
    groups = adamw(list(Net().named_parameters()), lr=0.1, weight_decay=0.01).param_groups
    by_decay = {group["weight_decay"]: names_of(group) for group in groups}
    assert by_decay[0.01] == {"embed.weight", "hidden.weight", "head.weight"}
    assert by_decay[0.0] == {"hidden.bias", "norm.weight", "norm.bias"}


def test_parts_may_have_a_rate_of_their_own():
    optimizer = adamw(list(make_model().named_parameters()), lr=0.1, rates={"adapter": 0.02})
    rates = {name: g["lr"] for g in optimizer.param_groups for name in names_of(g)}
    assert {rate for name, rate in rates.items() if name.startswith("adapter.")} == {0.02}
    assert {rate for name, rate in rates.items() if not name.startswith("adapter.")} == {0.1}


@pytest.mark.parametrize("make", [adamw, adamw8bit])
def test_a_rate_for_nothing_that_is_trained_is_refused(make):
    with pytest.raises(ConfigError, match=r"begins with 'adaptr'(?s:.*)such as adapter"):
        make(list(make_model().named_parameters()), lr=0.1, rates={"adaptr": 0.02})


@pytest.mark.parametrize("paged", [False, True])
def test_adamw8bit_has_the_groups_of_adamw(paged):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    named = list(make_model().named_parameters())
    options = {"lr": 0.1, "weight_decay": 0.01, "rates": {"adapter": 0.02}}
    ours = adamw8bit(named, paged=paged, **options).param_groups
    theirs = adamw(named, **options).param_groups
    for key in ("lr", "weight_decay", "param_names"):
        assert [group[key] for group in ours] == [group[key] for group in theirs]


class Wide(nn.Module):
    """With more weights than bitsandbytes leaves in float32."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(64, 128)
        self.head = nn.Linear(128, 64)

    def forward(self, ids):
        return self.head(self.embed(ids))


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("paged", [False, True])
def test_adamw8bit_keeps_8_bit_moments_learns_and_goes_on_from_a_stored_state(tmp_path, paged):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")

    def make(net):
        optimizer = adamw8bit(list(net.named_parameters()), lr=1e-2, paged=paged)
        return optimizer, cosine(optimizer, 12)

    net = Wide()
    optimizer, scheduler = make(net)
    first = learn(net, optimizer, scheduler, 6)
    assert first[-1] < 0.5 * first[0]
    moments = optimizer.state[net.embed.weight]
    assert moments["state1"].dtype == moments["state2"].dtype == torch.uint8
    state = {"net": net, "optimizer": optimizer, "scheduler": scheduler}
    torch.save({key: value.state_dict() for key, value in state.items()}, tmp_path / "state.pt")
    expected = learn(net, optimizer, scheduler, 6)

    again = Wide()
    optimizer, scheduler = make(again)
    stored = torch.load(tmp_path / "state.pt", weights_only=True)
    for key, value in {"net": again, "optimizer": optimizer, "scheduler": scheduler}.items():
        value.load_state_dict(stored[key])
    assert learn(again, optimizer, scheduler, 6) == expected


def rates_of(schedule, n_steps, **options):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, n_steps, **options)
    rates = []
    for _ in range(n_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_wsd_rises_stays_and_falls():
    rates = rates_of(wsd, 10, warmup=0.2, decay=0.4)
    assert rates == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_cosine_rises_and_falls_to_nothing():
    rates = rates_of(cosine, 100, warmup=0.1)
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[55] == pytest.approx(0.5)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.001


@pytest.mark.parametrize("schedule", [cosine, wsd])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_short_trainings_learn_in_every_step(schedule, n_steps):
    assert all(0 < rate <= 1 for rate in rates_of(schedule, n_steps))


@pytest.mark.parametrize("fused", [True, False])
def test_adamw_lets_gradients_be_clipped_in_mixed_precision(trainer, dialogues, fused):
    module = LocVLMModule(make_model(), partial(adamw, lr=1e-3, fused=fused))
    fit = trainer(max_steps=1, precision="bf16-mixed", gradient_clip_val=1.0)
    fit.fit(module, datamodule=dialogues())
    assert fit.global_step == 1
