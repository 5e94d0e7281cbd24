import json
import shutil
import subprocess
import sys

import pytest
from hydra import compose, initialize_config_module

from locvlm.errors import ConfigError, DataError
from locvlm.evaluate import evaluate
from locvlm.evaluation.results import find_metric

FAST = ["predictor.max_new_tokens=2", "scenes.splits.test=2"]


def configured(*overrides):
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose("evaluate", overrides=list(overrides))


@pytest.fixture
def model(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "run" / "model")


def test_scenes_are_measured_and_reported_beside_the_model(model, capsys):
    results = evaluate(configured(f"checkpoint={model}", *FAST))
    folder = model.parent / "evaluation" / "scenes"
    assert {file.name for file in folder.iterdir()} == {
        "answers.jsonl",
        "items.jsonl",
        "report.html",
        "results.json",
        "table.md",
    }
    assert json.loads((folder / "results.json").read_text())["benchmark"] == "scenes"
    assert find_metric(results, "localization.category.acc_at_0_5") is not None
    assert results["settings"]["checkpoint"] == str(model)
    printed = capsys.readouterr().out
    assert "Named object found" in printed
    assert f"report: {folder / 'report.html'}" in printed


def test_own_photos_are_measured_by_the_same_command(model, real_data, tmp_path):
    coco = real_data / "coco"
    results = evaluate(
        configured(
            f"checkpoint={model}",
            "benchmark=coco",
            f"benchmark.source.instances={coco / 'instances_val2014_100images.json'}",
            f"benchmark.source.images={coco / 'images'}",
            f"output={tmp_path / 'here'}",
            *FAST,
        )
    )
    assert results["data"]["images"] == 5
    assert results["counts"]["left out: image file is missing"] == 95
    assert (tmp_path / "here" / "report.html").is_file()


def test_a_part_can_be_left_out(model):
    results = evaluate(
        configured(
            f"checkpoint={model}", "~benchmark.parts.sides", "~benchmark.parts.regions", *FAST
        )
    )
    parts = {metric["key"].split(".")[0] for metric in results["metrics"]}
    assert parts == {"localization", "hallucination"}


def test_other_settings_are_refused_until_answers_are_asked_anew(model):
    only = ["~benchmark.parts.sides", "~benchmark.parts.regions", "~benchmark.parts.hallucination"]
    evaluate(configured(f"checkpoint={model}", *FAST, *only))
    longer = [f"checkpoint={model}", "scenes.splits.test=2", "predictor.max_new_tokens=3", *only]
    with pytest.raises(DataError, match="max_new_tokens"):
        evaluate(configured(*longer))
    results = evaluate(configured(*longer, "fresh=true"))
    assert results["predictor"]["max_new_tokens"] == 3


@pytest.mark.parametrize("key", ["benchmark.parts.hallucination.per_imge", "scenes.sead"])
def test_a_misspelt_key_is_named(model, key):
    with pytest.raises(ConfigError, match=key):
        evaluate(configured(f"checkpoint={model}", f"+{key}=3"))


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "locvlm.evaluate", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_command_leaves_nothing_in_the_folder_where_it_is_called(model, tmp_path):
    here = tmp_path / "elsewhere"
    here.mkdir()
    done = command(f"checkpoint={model}", *FAST, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    assert list(here.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint"),
        (["checkpoint=nowhere"], "no such folder"),
        (["checkpoint=nowhere", "benchmark=pop"], "no benchmark is called 'pop"),
        (["checkpoint=nowhere", "benchmrk=scenes"], "benchmrk"),
        (["checkpoint=nowhere", "benchmark=coco"], "instances"),
    ],
)
def test_mistakes_get_one_message_and_no_traceback(arguments, message, tmp_path):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_videos_are_refused_before_a_model_is_loaded(tmp_path):
    file = tmp_path / "test_qa.json"
    record = {"id": 1, "video_id": "a", "question": "who?", "answer": "man"}
    file.write_text(json.dumps([record]))
    with pytest.raises(ConfigError, match="msvd_qa asks about videos") as error:
        evaluate(configured("checkpoint=gone", "benchmark=msvd_qa", f"benchmark.questions={file}"))
    assert "locvlm.score benchmark=msvd_qa" in error.value.fix
