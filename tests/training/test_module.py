from functools import partial

import pytest
import torch

from locvlm import LocVLMModule
from locvlm.errors import CheckpointError, ConfigError
from locvlm.models.layout import Layout
from locvlm.models.lora import add_lora, is_lora
from locvlm.models.quantization import quantize
from locvlm.training import adamw, cosine
from locvlm.training.module import train_only
from tests.tiny import make_model


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed_parts(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    "trained", [["adapter"], ["adapter", "language_model"], ["encoder", "adapter"]]
)
def test_only_the_named_parts_learn(trainer, dialogues, trained):
    model = make_model()
    before = weights_of(model)
    module = LocVLMModule(model, partial(torch.optim.SGD, lr=0.1), trained=trained)
    trainer(max_steps=2).fit(module, datamodule=dialogues())
    assert changed_parts(before, model.state_dict()) == set(trained)


def test_each_step_is_told_the_layout_that_was_found_before_the_batch_moved(trainer, dialogues):
    model, told = make_model(), []
    model.register_forward_pre_hook(
        lambda module, args, batch: told.append(batch["layout"]), with_kwargs=True
    )
    module = LocVLMModule(model, partial(torch.optim.SGD, lr=0.1))
    trainer(max_steps=2, limit_val_batches=1).fit(module, datamodule=dialogues())
    assert len(told) >= 2
    assert all(isinstance(layout, Layout) for layout in told)


@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_do_not_lie_beside_activations_of_the_next_step(trainer, dialogues, parts):
    model, there = make_model(), []
    weight = next(model.adapter.parameters())
    model.register_forward_pre_hook(lambda *_: there.append(weight.grad is not None))
    module = LocVLMModule(model, partial(torch.optim.SGD, lr=0.1), trained=["adapter"])
    few = {"max_steps": 2, "accumulate_grad_batches": parts, "limit_val_batches": 0}
    trainer(**few).fit(module, datamodule=dialogues())
    assert there == [False, True][:parts] * 2  # those of a batch in parts are added up


def test_lora_and_the_adapter_learn_and_what_is_beneath_lora_does_not(trainer, dialogues):
    model = add_lora(make_model(), rank=4, alpha=8)
    before = weights_of(model)
    module = LocVLMModule(model, partial(torch.optim.SGD, lr=0.1), trained=["adapter", "lora"])
    trainer(max_steps=2).fit(module, datamodule=dialogues())
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if is_lora(name) or name.startswith("adapter.")}
    frozen = [weight for name, weight in model.named_parameters() if name not in changed]
    assert all(weight.grad is None for weight in frozen)


@pytest.mark.parametrize("kind", ["4bit", "8bit"])
def test_lora_learns_beside_quantized_weights(trainer, dialogues, kind):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    model = add_lora(quantize(make_model(hidden_size=64), kind), rank=4, alpha=8)
    module = LocVLMModule(model, partial(adamw, lr=1e-2), trained=["adapter", "lora"])
    fit = trainer(max_epochs=8)  # validates after each epoch
    fit.fit(module, datamodule=dialogues())
    assert fit.callback_metrics["train/loss"] < 3


def test_the_adapter_may_learn_alone_beneath_lora():
    model = add_lora(make_model(), rank=4, alpha=8)
    train_only(model, ["adapter"])
    assert not model.language_model.training
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {
        "adapter"
    }


def test_the_adapter_keeps_a_rate_of_its_own_beside_lora(trainer, dialogues):
    model = add_lora(make_model(), rank=4, alpha=8)
    optimizer = partial(adamw, lr=2e-4, rates={"adapter": 2e-5})
    module = LocVLMModule(model, optimizer, trained=["adapter", "lora"])
    fit = trainer(max_steps=1)
    fit.fit(module, datamodule=dialogues())
    rates = {name: g["lr"] for g in fit.optimizers[0].param_groups for name in g["param_names"]}
    assert {rate for name, rate in rates.items() if is_lora(name)} == {2e-4}
    assert {rate for name, rate in rates.items() if name.startswith("adapter.")} == {2e-5}
    assert len(rates) == 2 + 2 * 14


@pytest.mark.parametrize(
    "make", [partial(add_lora, rank=4, alpha=8), partial(quantize, kind="8bit")]
)
def test_weights_that_cannot_learn_are_refused(make):
    with pytest.raises(ConfigError, match=r"own weights cannot learn(?s:.*)\[adapter,lora\]"):
        train_only(make(make_model()), ["adapter", "language_model"])


def test_a_checkpoint_leaves_out_what_is_beneath_lora(trainer, dialogues, tmp_path):
    model = add_lora(make_model(), rank=4, alpha=8)
    module = LocVLMModule(model, partial(adamw, lr=1e-3), trained=["adapter", "lora"])
    fit = trainer(max_steps=1)
    fit.fit(module, datamodule=dialogues())
    fit.save_checkpoint(tmp_path / "last.ckpt")
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"].keys()
    parts = {name: None for name in stored if not is_lora(name)}
    assert {name.split(".")[1] for name in parts} == {"encoder", "adapter"}
    assert sum(map(is_lora, stored)) == 2 * 14


@pytest.mark.parametrize(
    ("seed", "rank", "message"),
    [(1, 4, "trained on another language model"), (0, 2, r"lora_A.default.weight is 4x32")],
)
def test_a_checkpoint_of_another_model_is_refused(
    trainer, dialogues, tmp_path, seed, rank, message
):
    def module(**options):
        model = add_lora(make_model(seed=options["seed"]), rank=options["rank"], alpha=8)
        return LocVLMModule(model, partial(adamw, lr=1e-3), trained=["adapter", "lora"])

    fit = trainer(max_steps=1)
    fit.fit(module(seed=0, rank=4), datamodule=dialogues())
    fit.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=message):
        trainer(max_steps=2).fit(
            module(seed=seed, rank=rank),
            datamodule=dialogues(),
            ckpt_path=tmp_path / "last.ckpt",
            weights_only=True,
        )


def test_a_part_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"no part named decoder(?s:.*)encoder, adapter"):
        train_only(make_model(), ["adapter", "decoder"])


def test_lora_that_was_not_added_is_refused():
    with pytest.raises(ConfigError, match=r"no part named lora(?s:.*)added first: lora=default"):
        train_only(make_model(), ["adapter", "lora"])


def test_weights_in_float16_are_not_trained():
    model = make_model()
    model.language_model.half()
    train_only(model, ["adapter"])
    with pytest.raises(ConfigError, match="float16 cannot learn"):
        train_only(model, ["adapter", "language_model"])


def test_an_optimizer_that_refuses_its_settings_says_so(trainer, dialogues):
    module = LocVLMModule(make_model(), partial(torch.optim.SGD, lr=-1.0))
    with pytest.raises(ConfigError, match=r"Invalid learning rate: -1.0\n  where: optimizer"):
        trainer(max_steps=1).fit(module, datamodule=dialogues())


def test_frozen_parts_stay_in_evaluation_mode():
    model = make_model()
    train_only(model, ["adapter"])
    assert model.training
    assert model.adapter.training
    assert not model.encoder.training
    assert not model.language_model.training


def test_training_lowers_the_loss_and_logs_it(trainer, dialogues):
    model = make_model()
    module = LocVLMModule(model, partial(adamw, lr=3e-3), partial(cosine, warmup=0.1))
    fit = trainer(max_epochs=30)
    fit.fit(module, datamodule=dialogues())
    assert fit.callback_metrics["train/loss"] < 0.5
    assert fit.callback_metrics["val/loss"] < 0.5


def test_the_schedule_gets_the_number_of_steps(trainer, dialogues):
    seen = []

    def schedule(optimizer, n_steps):
        seen.append(n_steps)
        return cosine(optimizer, n_steps)

    module = LocVLMModule(make_model(), partial(torch.optim.AdamW, lr=1e-3), schedule)
    trainer(max_epochs=3, accumulate_grad_batches=2).fit(module, datamodule=dialogues())
    assert seen == [6]


def test_a_schedule_without_an_end_is_refused(trainer, dialogues):
    module = LocVLMModule(make_model(), partial(adamw, lr=1e-3), cosine)
    with pytest.raises(ConfigError, match=r"must know how many steps(?s:.*)set max_steps"):
        trainer(max_epochs=-1).fit(module, datamodule=dialogues())
