import logging
from functools import partial
from types import SimpleNamespace

import torch

from locvlm.training import Bar, LocVLMModule, RandomState, Throughput, adamw, callbacks
from tests.tiny import make_model


def module():
    return LocVLMModule(make_model(), partial(adamw, lr=1e-3))


def shown(trainer, **options):
    bar = {"callbacks": [Bar()], "enable_progress_bar": True, "limit_val_batches": 0}
    return trainer(**(bar | options))


def said(caplog):
    return [r.message for r in caplog.records if r.name == "locvlm.training.callbacks"]


def test_a_log_gets_the_first_step_and_each_tenth(trainer, dialogues, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "instruct"
    run = shown(trainer, max_steps=40, default_root_dir=folder)
    run.fit(module(), datamodule=dialogues())
    lines = said(caplog)
    steps = [line.partition(", loss ")[0] for line in lines]
    assert steps == [f"instruct: step {n} of 40" for n in (1, *range(4, 41, 4))]
    assert lines[-1].endswith("0 s left")


def test_a_log_gets_a_line_after_each_quiet_minute(trainer, dialogues, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    run = shown(trainer, max_steps=60)
    # Steps of 31 seconds: each second one ends the minute.
    monkeypatch.setattr(
        callbacks, "time", SimpleNamespace(monotonic=lambda: run.global_step * 31.0)
    )
    monkeypatch.setattr(callbacks, "_LINES", 1)
    run.fit(module(), datamodule=dialogues())
    assert [line.split()[2] for line in said(caplog)] == ["1", *map(str, range(3, 60, 2)), "60"]


def test_steps_of_several_batches_are_told_once(trainer, dialogues, caplog):
    caplog.set_level(logging.INFO)
    run = shown(trainer, max_steps=3, accumulate_grad_batches=4)
    run.fit(module(), datamodule=dialogues())
    assert [line.split()[2] for line in said(caplog)] == ["1", "2", "3"]


def test_the_time_left_is_that_of_a_resumed_runs_own_steps(
    trainer, dialogues, caplog, monkeypatch, tmp_path
):
    first = trainer(max_steps=20)
    first.fit(module(), datamodule=dialogues())
    first.save_checkpoint(tmp_path / "last.ckpt")
    caplog.set_level(logging.INFO)
    run = shown(trainer, max_steps=40)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: run.global_step * 2.0))
    run.fit(module(), datamodule=dialogues(), ckpt_path=tmp_path / "last.ckpt")
    assert said(caplog)[0].split()[2] == "21"
    assert said(caplog)[0].endswith(", 38 s left")


def test_a_log_tells_what_validation_found_and_how_far_a_long_one_is(
    trainer, dialogues, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    run = shown(trainer, max_steps=4, limit_val_batches=1, num_sanity_val_steps=1)
    run.fit(module(), datamodule=dialogues())
    found = [line.partition(": ")[2] for line in said(caplog) if "validation" in line]
    assert len(found) == 1
    assert found[0].startswith("validation after step 4, loss ")
    monkeypatch.setattr(callbacks, "_QUIET", -1)
    run.validate(run.lightning_module, datamodule=dialogues())
    assert said(caplog)[-2].endswith(": validation, batch 1 of 1")


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
    assert not said(caplog)
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
