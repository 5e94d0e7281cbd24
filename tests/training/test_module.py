from functools import partial

import pytest
import torch

from locvlm import LocVLMModule
from locvlm.errors import ConfigError
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


def test_a_part_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"no part named lora(?s:.*)encoder, adapter"):
        train_only(make_model(), ["adapter", "lora"])


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
