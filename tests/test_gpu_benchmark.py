import importlib
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def measured(folder, *options):
    """What the command prints, and what it writes."""
    command = [sys.executable, BENCHMARKS / "gpu.py", "--size", "tiny", "--models", "b"]
    command += ["--json", folder / "numbers.json", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "numbers.json").read_text())


@pytest.mark.slow
def test_the_code_for_gpus_runs_in_a_tiny_size(tmp_path):
    short = ["--steps", "1", "--questions", "1", "3", "--new-tokens", "2"]
    printed, found = measured(tmp_path, *short, "--by", "locvlm", "transformers")
    train, answers = found["rows"]["train"], found["rows"]["generate"]
    assert [(row["what"], row["by"]) for row in train] == [
        (kind, by) for kind in ("full", "lora") for by in ("locvlm", "transformers")
    ]
    assert [row["what"] for row in answers] == ["1 questions", "3 questions"] * 2
    assert not any("note" in row for row in train + answers)
    for row in train:
        assert row["setting"] == "adamw"
        assert min(row["samples_per_s"], row["tokens_per_s"], row["peak_gib"]) > 0
        assert row["mfu"] is None  # nobody knows the peak of this machine
    one, other = (row["model_flops_per_s"] * row["seconds"][2] for row in train[:2])
    assert one == pytest.approx(other)  # the same work, whoever does it
    assert {"date", "command", "versions", "machine"} <= found.keys()
    assert found["versions"]["torch"] == version("torch")
    assert all(word in printed for word in ("samples_per_s", "answers_per_s", "transformers"))


def test_a_row_that_takes_too_long_says_so_and_the_next_one_starts(tmp_path):
    printed, found = measured(tmp_path, "--suite", "train", "--by", "locvlm", "--seconds", "0.01")
    notes = [row["note"] for row in found["rows"]["train"]]
    assert notes == ["not done in 0.01 s"] * 2
    assert printed.count("not done in 0.01 s") == 2


def test_the_first_setting_that_fits_is_measured(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = importlib.import_module("gpu")

    def too_large():
        raise torch.OutOfMemoryError

    assert gpu.first_that_fits([too_large, too_large, lambda: {"mfu": 0.5}]) == {"mfu": 0.5}
    with pytest.raises(torch.OutOfMemoryError):
        gpu.first_that_fits([too_large, too_large])
