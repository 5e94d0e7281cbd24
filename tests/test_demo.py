import json
import os

import pytest
from hydra.core.config_store import ConfigStore

from locvlm.demo import main

# The shortest run that trains and measures something; a name that no file in conf/ has.
ConfigStore.instance().store(
    group="experiment",
    name="briefest",
    package="_global_",
    node={
        "defaults": ["binned224"],
        "name": "briefest",
        "run": ["instruct"],
        "stages": {"instruct": {"max_steps": 2}},
        "scenes": {"splits": {"train": 8, "val": 2, "test": 2}},
        "data": {"batch_size": 2, "val_length": 8},
        "trainer": {"log_every_n_steps": 1},
        "callbacks": {"checkpoint": {"every_n_train_steps": 1}},
    },
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_trains_measures_and_says_how_to_ask_and_a_second_time_only_measures(here, capsys):
    model = here / "my runs (1)" / "brief" / "model"
    main(["--experiment", "briefest", "--seed", "3", "--folder", str(model.parent)])
    first = capsys.readouterr().out
    assert json.loads((model.parent / "finished.json").read_text()) == ["instruct"]
    assert "\nseed: 3\n" in (model.parent / "config.yaml").read_text()
    results = json.loads((model.parent / "evaluation" / "scenes" / "results.json").read_text())
    assert results["data"]["images"] == 150
    assert results["settings"]["checkpoint"] == str(model)
    assert "Named object found" in first
    assert f"python -m locvlm.predict {model}" in first
    before = os.stat(model / "model.safetensors").st_mtime_ns
    main(["--experiment", "briefest", "--seed", "3", "--folder", str(model.parent)])
    assert os.stat(model / "model.safetensors").st_mtime_ns == before
    assert "Named object found" in capsys.readouterr().out


def test_an_experiment_that_is_none_gets_one_message_and_leaves_nothing(here, capsys):
    with pytest.raises(SystemExit) as end:
        main(["--experiment", "scenes_demmo"])
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        "error: no experiment named scenes_demmo\n  where: --experiment\n"
        "  fix:   choose scenes_demo or scenes_hour\n"
    )
    assert list(here.iterdir()) == []
