import os
import signal
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from locvlm.training import LocVLMModule, Requeue, adamw
from tests.tiny import make_model

JOB = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "training",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_STEP_ID": "0",
}


class Told(Callback):
    """Sends the signal with which SLURM says that a job's time is nearly up."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture
def job(monkeypatch, tmp_path):
    """A job of one task; what it asks scontrol for is in a file."""

    def begin(rc=0, **more):
        for name, value in (JOB | more).items():
            monkeypatch.setenv(name, value)
        said = tmp_path / "said"
        command = tmp_path / "bin" / "scontrol"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\necho "$@" >> {said}\necho "no such job" >&2\nexit {rc}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
        return said

    return begin


def fit(trainer, dialogues, *callbacks, **options):
    module = LocVLMModule(make_model(), partial(adamw, lr=1e-3))
    made = trainer(max_steps=8, callbacks=list(callbacks), **options)
    made.fit(module, datamodule=dialogues())
    return made


def saved(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)["global_step"] if path.exists() else None


@pytest.mark.parametrize(
    ("more", "name"), [({}, "7"), ({"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "3"}, "5_3")]
)
def test_a_job_whose_time_is_up_saves_and_is_queued_again(
    trainer, dialogues, job, tmp_path, more, name
):
    said = job(**more)
    with pytest.raises(SystemExit) as stop:
        fit(trainer, dialogues, Requeue(every=3), Told(3))
    assert stop.value.code == 0
    assert said.read_text() == f"requeue {name}\n"
    assert saved(tmp_path) == 6  # the next step after which processes ask each other
    assert not list(tmp_path.glob("hpc_ckpt*"))


@pytest.mark.parametrize("rc", [1, None], ids=["refused", "missing"])
def test_a_job_that_cannot_be_queued_again_goes_on(
    trainer, dialogues, job, tmp_path, caplog, monkeypatch, rc
):
    job(rc or 0)
    if rc is None:
        monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    made = fit(trainer, dialogues, Requeue(every=2), Told(1))
    assert made.global_step == 8
    assert saved(tmp_path) == 2
    assert "saved after step 2, but job 7 was not queued again" in caplog.text


def test_a_job_that_is_told_nothing_trains_to_its_end(trainer, dialogues, job, tmp_path):
    said = job()
    before = signal.getsignal(signal.SIGUSR1)
    assert fit(trainer, dialogues, Requeue(every=1)).global_step == 8
    assert saved(tmp_path) is None
    assert not said.exists()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_steps_that_gather_several_batches_are_waited_for(trainer, dialogues, job, tmp_path):
    job()
    with pytest.raises(SystemExit):
        fit(trainer, dialogues, Requeue(every=1), Told(2), accumulate_grad_batches=2)
    assert saved(tmp_path) == 3


def test_outside_of_slurm_signals_are_left_alone(trainer, dialogues):
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        assert fit(trainer, dialogues, Requeue(every=1), Told(3)).global_step == 8
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [1]
