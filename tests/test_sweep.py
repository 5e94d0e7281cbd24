import json
from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from locvlm.sweep import SweepTable, collect


def job_config(folder, overrides, mode=RunMode.MULTIRUN, number=0):
    hydra = {
        "mode": mode,
        "job": {"num": number},
        "runtime": {"output_dir": str(folder)},
        "overrides": {"task": overrides},
        "sweep": {"dir": str(folder.parent)},
    }
    return OmegaConf.create({"hydra": hydra})


def make_run(folder, overrides, losses="", metrics=None, number=0):
    """What a finished run leaves behind, as far as the table reads it."""
    (folder / "instruct").mkdir(parents=True)
    SweepTable().on_job_start(
        job_config(folder, overrides, number=number), task_function=lambda _: None
    )
    (folder / "model").mkdir()
    (folder / "finished.json").write_text('["encoder", "instruct"]')
    (folder / "instruct" / "metrics.csv").write_text(losses)
    if metrics is not None:
        (folder / "evaluation" / "scenes").mkdir(parents=True)
        results = folder / "evaluation" / "scenes" / "results.json"
        results.write_text(json.dumps({"metrics": metrics}))


LOSSES = "step,train/loss,val/loss\n0,3.0,\n1,2.0,\n1,,2.5\n"
METRICS = [
    {"key": "loc.acc", "headline": "Acc@0.5", "value": 0.5, "low": 0.4, "high": 0.6},
    {"key": "loc.other", "headline": "", "value": 0.1, "low": None, "high": None},
]


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "demo-sweep"
    make_run(folder / "a", ["+experiment=demo", "coordinates=ivb"], LOSSES, METRICS)
    make_run(folder / "b", ["+experiment=demo", "coordinates=nfp"], LOSSES)
    return folder


def test_the_end_of_a_sweep_leaves_one_table_in_three_forms(sweep, capsys):
    SweepTable().on_multirun_end(job_config(sweep / "a", []))
    assert "| ivb | 2.0000 | 2.5000 | 50.0 |" in (sweep / "results.md").read_text()
    header, first, _ = (sweep / "results.csv").read_text().splitlines()
    assert header == "folder,+experiment,coordinates,train/loss,val/loss,loc.acc,loc.other"
    assert first == "a,demo,ivb,2.0,2.5,0.5,0.1"
    assert (sweep / "results.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "Sweep demo-sweep" in printed
    assert "results.md" in printed


def test_a_run_that_was_interrupted_is_left_out(sweep):
    (sweep / "b" / "model").rmdir()
    assert [run.folder for run in collect(sweep)] == ["a"]


def test_runs_stand_in_the_order_of_the_command_line(tmp_path):
    for number, scheme in enumerate(["nfp", "ivb", "diga"]):
        make_run(tmp_path / scheme, [f"coordinates={scheme}"], number=number)
    assert [run.folder for run in collect(tmp_path)] == ["nfp", "ivb", "diga"]


def test_a_run_without_a_log_has_no_losses(sweep):
    (sweep / "b" / "instruct" / "metrics.csv").unlink()
    assert collect(sweep)[1].losses == {}


def test_values_with_signs_of_their_own_are_kept_whole(tmp_path):
    folder = tmp_path / "sweep" / "a"
    make_run(folder, ["scenes.splits={train: 5, val: 2}", "run=[instruct]", "~evaluate"])
    overrides = json.loads((folder / "overrides.json").read_text())["overrides"]
    assert overrides["run"] == "[instruct]"
    assert overrides["scenes.splits"] == "{train:5,val:2}"


def test_a_single_run_gets_no_file_and_an_empty_sweep_no_table(tmp_path):
    single = job_config(tmp_path / "run", ["seed=1"], RunMode.RUN)
    SweepTable().on_job_start(single, task_function=SimpleNamespace)
    SweepTable().on_multirun_end(single)
    assert list(tmp_path.iterdir()) == []
