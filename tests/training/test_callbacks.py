import logging
from functools import partial

import torch

from locvlm.training import Bar, LocVLMModule, RandomState, Throughput, adamw
from tests.tiny import make_model


def module():
    return LocVLMModule(make_model(), partial(adamw, lr=1e-3))


def test_a_log_gets_ten_lines_with_loss_and_remaining_time(trainer, dialogues, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "instruct"
    run = trainer(
        max_steps=40, callbacks=[Bar()], enable_progress_bar=True, default_root_dir=folder
    )
    run.fit(module(), datamodule=dialogues())
    lines = [r.message for r in caplog.records if r.name == "locvlm.training.callbacks"]
    assert len(lines) == 10
    assert lines[0].startswith("instruct: step 4 of 40, loss ")
    assert lines[-1].startswith("instruct: step 40 of 40, loss ")
    assert lines[-1].endswith("0 s left")


def test_a_terminal_gets_a_bar(trainer, dialogues, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    callbacks = [Throughput(every=2), Bar()]
    run = trainer(max_steps=6, callbacks=callbacks, enable_progress_bar=True)
    run.fit(module(), datamodule=dialogues())
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "loss" in shown
    assert "samples_per_s" in shown


def test_a_disabled_bar_shows_nothing(trainer, dialogues, capsys, caplog):
    caplog.set_level(logging.INFO)
    bar = Bar()
    bar.disable()
    run = trainer(max_steps=2, callbacks=[bar], enable_progress_bar=True)
    run.fit(module(), datamodule=dialogues())
    assert capsys.readouterr().err == ""
    assert not [r for r in caplog.records if r.name == "locvlm.training.callbacks"]
    bar.enable()


def test_a_resumed_run_draws_what_the_run_would_have_drawn(trainer, dialogues):
    callback = RandomState()
    torch.manual_seed(1)
    state = callback.state_dict()
    expected = torch.rand(3)
    torch.manual_seed(2)
    callback.load_state_dict(state)
    torch.rand(5)  # drawn while training is set up
    callback.on_train_batch_start(trainer(), module(), {}, 0)
    assert torch.rand(3).equal(expected)
    callback.on_train_batch_start(trainer(), module(), {}, 1)
    assert not torch.rand(3).equal(expected)
