"""Processes that torchrun starts train together, or say once why they cannot."""

import subprocess
import sys

import pytest

from tests.test_scale import ALONE, SMALL, TWO, losses

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]


def train(folder, launcher, *overrides):
    command = [*launcher, "-m", "locvlm.train", "name=mine", *SMALL, "run=[instruct]", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_two_processes_of_torchrun_train_as_one(tmp_path, trainer):
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    done = train(together, TORCHRUN, f"trainer={trainer}", *TWO)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 6 of 6") == 1
    assert [run.name for run in (together / "runs").iterdir()] == ["mine"]
    assert train(alone, [sys.executable], *ALONE).returncode == 0
    expected = losses(alone / "runs" / "mine")
    assert losses(together / "runs" / "mine") == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "said"),
    [("run=[instruc]", "no stage named instruc"), ("trainer=cpu", "torchrun started 2")],
)
def test_what_is_wrong_is_said_once(tmp_path, override, said):
    done = train(tmp_path, TORCHRUN, override)
    assert done.returncode == 1
    assert done.stderr.count(said) == 1
