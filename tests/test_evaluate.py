import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from PIL import Image

from locvlm.data import Quarantine, write_shards
from locvlm.errors import ConfigError, DataError
from locvlm.evaluate import _home, evaluate
from locvlm.io import write_json
from locvlm.types import Box, Instance, Sample

FAST = ["predictor.max_new_tokens=2", "scenes.splits.test=2"]


def configured(*overrides):
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose("evaluate", overrides=list(overrides))


@pytest.fixture
def model(checkpoint, tmp_path):
    return shutil.copytree(checkpoint, tmp_path / "run" / "model")


def test_scenes_are_measured_and_reported_beside_the_model(model, capsys, caplog):
    caplog.set_level("INFO")
    results = evaluate(configured(f"checkpoint={model}", *FAST))
    folder = model.parent / "evaluation" / "scenes"
    assert {file.name for file in folder.iterdir()} == {
        "answers.jsonl",
        "items.jsonl",
        "metrics.csv",
        "report.html",
        "results.json",
        "table.md",
    }
    assert json.loads((folder / "results.json").read_text())["benchmark"] == "scenes"
    values = {metric["key"]: metric["value"] for metric in results["metrics"]}
    assert values["localization.category.acc_at_0_5"] is not None
    assert results["settings"]["checkpoint"] == str(model)
    n_questions = results["counts"]["questions"]
    assert (
        f"benchmark scenes: {n_questions} questions; benchmark=... chooses another" in caplog.text
    )
    printed = capsys.readouterr().out
    assert "Named object found" in printed
    assert f"report: {folder / 'report.html'}" in printed


def test_results_of_another_benchmark_are_written_over_only_if_told(model, tmp_path):
    write_json(tmp_path / "out" / "results.json", {"benchmark": "pope", "protocol": {}, "data": {}})
    given = [f"checkpoint={model}", f"output={tmp_path / 'out'}", *FAST]
    with pytest.raises(ConfigError, match="this folder holds results of pope"):
        evaluate(configured(*given))
    assert evaluate(configured(*given, "fresh=true"))["benchmark"] == "scenes"


def test_an_unfinished_run_of_another_benchmark_is_left_alone(model, tmp_path):
    given = [f"checkpoint={model}", f"output={tmp_path / 'out'}", *FAST]
    evaluate(configured(*given))
    (tmp_path / "out" / "results.json").unlink()
    evaluate(configured(*given))  # its own is finished
    (tmp_path / "out" / "results.json").unlink()
    answers = tmp_path / "out" / "answers.jsonl"
    begun = [json.loads(line) for line in answers.read_text().splitlines()[:3]]
    for record in begun[1:]:
        record["key"] = "pope/1"
    answers.write_text("".join(json.dumps(record) + "\n" for record in begun) + '{"ques')
    before = answers.read_bytes()
    with pytest.raises(ConfigError, match="unfinished run of another benchmark(?s:.*)'pope/1'"):
        evaluate(configured(*given))
    assert answers.read_bytes() == before


def test_results_of_other_photos_are_not_written_over(model, tmp_path):
    image = io.BytesIO()
    Image.new("RGB", (64, 64)).save(image, "PNG")
    box = Instance("cat", Box(10, 10, 50, 50))
    sample = Sample("", "", image.getvalue(), (64, 64), (box,))
    for name in ("ours", "theirs"):
        samples = [replace(sample, key=name)]
        write_shards(samples, tmp_path / name, quarantine=Quarantine())
    given = [f"checkpoint={model}", f"output={tmp_path / 'out'}", FAST[0], "benchmark=shards"]
    evaluate(configured(*given, f"benchmark.source.folder={tmp_path / 'ours'}"))
    with pytest.raises(ConfigError, match="results of shards, from other files"):
        evaluate(configured(*given, f"benchmark.source.folder={tmp_path / 'theirs'}"))


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


def photos(model, real_data, tmp_path, *overrides):
    """Evaluates `model` on five photos of COCO."""
    coco = real_data / "coco"
    return configured(
        f"checkpoint={model}",
        "benchmark=coco",
        f"benchmark.source.instances={coco / 'instances_val2014_100images.json'}",
        f"benchmark.source.images={coco / 'images'}",
        "~benchmark.parts.sides",
        "~benchmark.parts.regions",
        f"output={tmp_path / 'here'}",
        *overrides,
        *FAST,
    )


def photo_shards(real_data, folder):
    files = sorted((real_data / "coco" / "images").glob("*.jpg"))[:2]
    samples = []
    for file in files:
        with Image.open(file) as image:
            samples.append(Sample(file.stem, "t", file.read_bytes(), image.size))
    write_shards(samples, folder, quarantine=Quarantine())
    return folder


def test_photos_of_the_training_data_are_counted_and_told(model, real_data, tmp_path, capsys):
    shards = photo_shards(real_data, tmp_path / "shards")
    results = evaluate(photos(model, real_data, tmp_path, f"train_shards={shards}"))
    assert results["counts"]["images in the training data"] == 2
    assert (results["leaks"]["images"], results["leaks"]["in_samples"]) == (5, 2)
    note = "2 of 5 images stand in the training data"
    assert f"note: {note} (2 by COCO id, 2 by their bytes; in 2 of 2 " in capsys.readouterr().out
    for file in ("report.html", "table.md"):
        assert note in (tmp_path / "here" / file).read_text()


def test_the_training_data_are_those_that_the_run_of_the_checkpoint_names(
    model, real_data, tmp_path
):
    shards = photo_shards(real_data, tmp_path / "shards")
    stage = {"data": {"train": {"localization": {"shards": str(shards)}}}}
    config = OmegaConf.create({"run": ["instruct"], "stages": {"instruct": stage}})
    OmegaConf.save(config, model.parent / "config.yaml")
    results = evaluate(photos(model, real_data, tmp_path))
    assert results["leaks"]["folders"] == [str(shards)]
    assert results["leaks"]["leaked"] == 2
    assert "leaks" not in evaluate(photos(model, real_data, tmp_path, "train_shards=[]"))


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


SIDES_ONLY = [f"~benchmark.parts.{part}" for part in ("localization", "hallucination", "regions")]


def answers_of(folder):
    """In their order; likelihoods, which batches round in their own ways, to three decimals."""
    lines = (folder / "answers.jsonl").read_text().splitlines()
    header, *answers = map(json.loads, lines)
    for answer in answers:
        answer["likelihoods"] = [round(value, 3) for value in answer.get("likelihoods", ())]
    return [header, *answers]


def test_recorded_answers_are_measured_without_a_model(model, tmp_path, monkeypatch):
    first = evaluate(configured(f"checkpoint={model}", *FAST))
    file = model.parent / "evaluation" / "scenes" / "answers.jsonl"
    monkeypatch.chdir(tmp_path)
    again = evaluate(
        configured(
            "predictor=recorded",
            f"predictor.answers={file}",
            "predictor.name=theirs",
            "dialect@predictor.dialect=ivb",
            "predictor.dialect.bins=32",
            "scenes.splits.test=2",
        )
    )
    assert again["metrics"] == first["metrics"]
    assert again["title"] == "theirs on scenes"
    assert (tmp_path / "runs" / "theirs" / "evaluation" / "scenes" / "report.html").is_file()


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "runs/Qwen2.5-VL-7B-Instruct/evaluation"),
        ("/data/models/llava/", "runs/llava/evaluation"),
        ("../..", "runs/{grandparent}/evaluation"),
        ("a b:c", "runs/a_b_c/evaluation"),
        ("/", "runs/model/evaluation"),
    ],
)
def test_other_models_have_their_folder_in_runs(name, folder, tmp_path, monkeypatch):
    here = tmp_path / "one" / "two" / "three"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    assert str(_home(None, name)) == folder.format(grandparent="one")


def test_shares_are_answered_one_by_one_and_reported_together(model, tmp_path):
    given = [f"checkpoint={model}", *FAST, *SIDES_ONLY]
    whole = evaluate(configured(*given, f"output={tmp_path / 'whole'}"))
    given.append(f"output={tmp_path / 'shares'}")
    assert evaluate(configured(*given, "share=1/2")) == {}
    assert evaluate(configured(*given, "share=0/2")) == {}
    assert {file.name for file in (tmp_path / "shares").iterdir()} == {
        "answers.0-of-2.jsonl",
        "answers.1-of-2.jsonl",
    }
    results = evaluate(configured(*given))
    assert results["metrics"] == whole["metrics"]
    assert answers_of(tmp_path / "shares") == answers_of(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_leave_the_files_of_one(model, tmp_path):
    given = [f"checkpoint={model}", *FAST, *SIDES_ONLY]
    whole = evaluate(configured(*given, f"output={tmp_path / 'whole'}"))
    done = command(*given, f"output={tmp_path / 'both'}", "processes=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    assert {file.name for file in (tmp_path / "both").iterdir()} == {
        file.name for file in (tmp_path / "whole").iterdir()
    }
    assert answers_of(tmp_path / "both") == answers_of(tmp_path / "whole")
    found = json.loads((tmp_path / "both" / "results.json").read_text())
    assert found["metrics"] == whole["metrics"]


@pytest.mark.slow
def test_a_process_that_fails_ends_all_with_its_message(tmp_path):
    file = tmp_path / "theirs.jsonl"
    file.write_text("")
    done = command(
        *("predictor=recorded", f"predictor.answers={file}", "processes=2", f"output={tmp_path}"),
        *("scenes.splits.test=2", *SIDES_ONLY),
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "have no recorded answer" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["processes=0"], "processes must be at least 1, got 0"),
        (["processes=2", "share=0/2"], "a process that answers a share starts no others"),
        (["share=0/2", "fresh=true"], "forgets nothing of theirs"),
        (["share=2/2"], "no share of the questions"),
        ([], "no model is named"),
    ],
)
def test_what_cannot_be_run_is_refused(settings, message):
    with pytest.raises((ConfigError, InstantiationException), match=message):
        evaluate(configured(*settings))


def test_each_share_has_a_gpu_of_its_own_as_far_as_there_are_some(model, tmp_path, monkeypatch):
    import torch

    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    given = [f"checkpoint={model}", *FAST, *SIDES_ONLY, "predictor.device=cpu"]
    for share in ("0/3", "1/3", "2/3"):
        evaluate(configured(*given, f"output={tmp_path}", f"share={share}"))
    evaluate(configured(*given, f"output={tmp_path}"))
    assert taken == [0, 1, 0]


def test_processes_of_torchrun_are_refused(model, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ConfigError, match="torchrun"):
        evaluate(configured(f"checkpoint={model}"))


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


def test_files_are_looked_for_below_the_root_of_the_data(model, tmp_path):
    photo = tmp_path / "data" / "coco" / "val2014" / "a.jpg"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(photo)
    asked = {"question_id": 1, "image": "a.jpg", "text": "Is there a cat?", "label": "no"}
    for split in ("random", "popular"):
        file = tmp_path / "data" / "pope" / f"coco_pope_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(asked))
    given = [f"checkpoint={model}", f"data_root={tmp_path / 'data'}", *FAST]
    for name in ("pope", "pope_popular"):
        assert evaluate(configured(f"benchmark={name}", *given))["counts"]["questions"] == 1
    assert {one.name for one in (model.parent / "evaluation").iterdir()} == {"pope", "pope_popular"}


def test_videos_are_refused_before_a_model_is_loaded(tmp_path):
    file = tmp_path / "test_qa.json"
    record = {"id": 1, "video_id": "a", "question": "who?", "answer": "man"}
    file.write_text(json.dumps([record]))
    with pytest.raises(ConfigError, match="msvd_qa asks about videos") as error:
        evaluate(configured("checkpoint=gone", "benchmark=msvd_qa", f"benchmark.questions={file}"))
    assert "locvlm.score benchmark=msvd_qa" in error.value.fix
