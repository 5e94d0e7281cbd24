import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import timm
import torch
import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from safetensors.torch import load_file

from locvlm import LocVLM
from locvlm.data import Quarantine, write_shards
from locvlm.data.shards import Shards
from locvlm.errors import CheckpointError, ConfigError
from locvlm.models import parts
from locvlm.train import _in_parts, folder_name, train
from tests.data.conftest import annotated, talked
from tests.qwen import save_qwen
from tests.tiny import make_sample

SMALL = [
    "name=small",
    "scenes.splits.train=24",
    "scenes.splits.val=8",
    "scenes.splits.test=8",
    "stages.encoder.max_steps=2",
    "stages.encoder.data.batch_size=4",
    "scenes.n_pairs=24",
    "stages.pairs.max_steps=2",
    "stages.instruct.max_steps=4",
    "data.batch_size=2",
    "data.val_length=8",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoint.every_n_train_steps=2",
    "model.encoder.options.depth=2",
    "model.language_model.options.num_hidden_layers=1",
]


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose("train", overrides=list(overrides))


@pytest.fixture(scope="module")
def scenes_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scenes") / "scenes"


@pytest.fixture
def run(scenes_folder, tmp_path):
    def train_small(*overrides, folder=tmp_path / "run"):
        cfg = composed(*SMALL, f"scenes_folder={scenes_folder}", *overrides)
        with warnings.catch_warnings():  # the command quiets Lightning for good
            return train(cfg, folder)

    return train_small


def test_one_command_trains_all_stages_and_leaves_a_model_that_answers(run, tmp_path):
    loss = run("+experiment=binned224", "name=small")
    assert 0 < loss < 10
    folder = tmp_path / "run"
    assert json.loads((folder / "finished.json").read_text()) == ["encoder", "pairs", "instruct"]
    model = LocVLM.from_pretrained(folder / "model")
    assert isinstance(model.locate(make_sample().image, "red circle"), list)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["coordinates"] == {"_target_": "locvlm.coordinates.IVB", "bins": 64}
    for stage in ("encoder", "pairs", "instruct"):
        names = {path.name.split(".")[0] for path in (folder / stage).iterdir()}
        assert {"metrics", "events", "checkpoints"} <= names
    header = (folder / "instruct" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "lr-MuonAdamW/pg1"} <= set(header)


def test_names_are_bound_on_scenes_of_two_objects_before_those_of_more(run, scenes_folder):
    run("run=[encoder,pairs]")
    pairs, scenes = (
        Shards(Path(folder) / "shards" / "train-localization")
        for folder in (f"{scenes_folder}-pairs", scenes_folder)
    )
    assert {len(pairs[n].instances) for n in range(len(pairs))} == {2}
    assert {len(scenes[n].instances) for n in range(len(scenes))} == {2, 3, 4}


def test_a_stage_can_be_run_alone_from_a_saved_model(run, tmp_path):
    run("run=[encoder]")
    trained = tmp_path / "run" / "model"
    assert json.loads((tmp_path / "run" / "finished.json").read_text()) == ["encoder"]
    run("run=[instruct]", f"checkpoint={trained}", folder=tmp_path / "second")
    first, second = LocVLM.from_pretrained(trained), tmp_path / "second" / "model"
    kept = LocVLM.from_pretrained(second).encoder.vit.pos_embed
    assert kept.equal(first.encoder.vit.pos_embed)


def test_who_goes_on_in_other_coordinates_is_told(run, tmp_path, caplog):
    run("run=[encoder]")
    trained = tmp_path / "run" / "model"
    run("run=[encoder]", f"checkpoint={trained}", folder=tmp_path / "same")
    assert "trained with another" not in caplog.text
    run("run=[encoder]", f"checkpoint={trained}", "coordinates=nfp", folder=tmp_path / "other")
    assert "trained with another coordinates: IVB(bins=64), now NFP(" in caplog.text


def test_a_saved_model_brings_its_words_to_a_run_with_other_prompts(run, tmp_path):
    run("run=[encoder]", "prompts.localize=[Seek the thing]")
    trained = tmp_path / "run" / "model"
    run("run=[instruct]", f"checkpoint={trained}", folder=tmp_path / "second")
    first, second = (
        LocVLM.from_pretrained(folder).processor.tokenizer.get_vocab()
        for folder in (trained, tmp_path / "second" / "model")
    )
    assert first == second
    assert "Seek" in first


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
def test_a_compiled_run_writes_what_any_other_does(run, tmp_path):
    torch._dynamo.reset()
    cut = ["run=[pairs]", "stages.pairs.max_steps=4", "logger=csv"]
    cut += ["callbacks.checkpoint.every_n_train_steps=2", "checkpoint_activations=true"]
    run(*cut, folder=tmp_path / "plain")
    run(*cut, "compile=true", folder=tmp_path / "compiled")
    plain, compiled = (
        [row["train/loss"] for row in rows if row["train/loss"]]
        for rows in (
            csv.DictReader((tmp_path / name / "pairs/metrics.csv").open())
            for name in ("plain", "compiled")
        )
    )
    assert len(plain) == 4
    # Muon orthogonalizes in bfloat16, which makes much of float errors.
    assert [float(loss) for loss in compiled] == pytest.approx(
        [float(loss) for loss in plain], rel=0.01
    )
    path = tmp_path / "compiled/pairs/checkpoints/last.ckpt"
    stored = torch.load(path, weights_only=True)["state_dict"]
    model = LocVLM.from_pretrained(tmp_path / "compiled/model")
    assert stored.keys() == {f"model.{name}" for name in model.state_dict()}


def test_a_second_run_is_refused_and_a_resumed_one_does_what_is_left(run, tmp_path):
    run("run=[encoder]")
    with pytest.raises(ConfigError, match=r"ckpt_path=last.*name=<another>"):
        run("run=[encoder]")
    run("ckpt_path=last")
    finished = json.loads((tmp_path / "run" / "finished.json").read_text())
    assert finished == ["encoder", "pairs", "instruct"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["run=[instuct]"], r"no stage named instuct(?s:.*)encoder, pairs, instruct"),
        (["ckpt_path=best"], r"ckpt_path is 'best'(?s:.*)ckpt_path=last"),
        (["seed=-1"], r"seed must be 0 to 4294967295, got -1"),
        (["seed=4294967296"], r"seed must be 0 to 4294967295, got 4294967296"),
        (["+stages.instruct.optimizer.lrr=1"], r"takes no 'lrr'(?s:.*)did you mean 'lr'"),
        (
            ["stages.instruct.trained=[lora]"],
            r"no part named lora in LocVLM\n.*stages\.instruct\.trained",
        ),
        (["lora=default"], r"weights cannot learn(?s:.*)stages\.pairs\.trained"),
        (["lora=default", "lora.rank=0"], "rank must be at least 1"),
        (["lora=default", "lora.dropout=2"], r"dropout probability(?s:.*)where: lora"),
        (["quantization=3bit"], "no quantization '3bit'"),
        (["model.language_model.architecture=lama"], "no architecture 'lama'"),
        (["+scenes.splts={train: 4}"], r"takes no 'splts'\n.*scenes\.splts\n.*splits"),
        (["+scenes.splits.trian=4"], r"takes no 'trian'\n.*scenes\.splits\.trian\n.*'train'"),
        (["trainer.precision=17"], r"(?s)\n  where: trainer\n"),
        (["coordinates.bins=0"], "bins must be at least 1"),
        (
            ["+stages.instruct.max_stps=3"],
            r"takes no 'max_stps'\n.*stages\.instruct\.max_stps\n.*max_steps",
        ),
    ],
)
def test_mistakes_in_the_config_get_one_message(run, overrides, message):
    with pytest.raises(Exception, match=message):
        run(*overrides)


def test_a_checkpoint_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        run(f"checkpoint={tmp_path / 'nowhere'}")


def test_a_checkpoint_of_another_model_is_refused(run, tmp_path):
    run("run=[encoder]")
    with pytest.raises(CheckpointError, match="weights are of another model"):
        run(
            "model.encoder.options.embed_dim=64",
            f"checkpoint={tmp_path / 'run' / 'model'}",
            folder=tmp_path / "second",
        )


@pytest.mark.parametrize(
    ("model", "size", "layers", "geometry"),
    [("locvlm_b", 224, 1, "resize"), ("locvlm_l", 336, 2, "pad")],
)
def test_the_papers_models_compose_with_all_that_belongs_to_them(model, size, layers, geometry):
    cfg = composed("+experiment=binned224", f"model={model}", "trainer=gpu")
    assert cfg.coordinates.bins == cfg.processor.image_size == size
    assert cfg.model.adapter.layers == layers
    assert cfg.processor.geometry["_target_"] == f"locvlm.geometry.{geometry}"
    assert "lmsys/vicuna-7b-v1" in cfg.processor.tokenizer.path
    assert cfg.processor.chat.system.startswith("A chat between a curious user")
    assert list(cfg.run) == ["align", "instruct"]
    assert list(cfg.stages.align.trained) == ["adapter"]
    assert cfg.stages.align.chat.user == ""
    assert cfg.stages.instruct.optimizer.lr == 2e-5
    assert (cfg.trainer.accelerator, cfg.trainer.precision) == ("gpu", "bf16-mixed")


def test_the_small_model_composes_with_llavas_batches_in_parts():
    cfg = composed("+experiment=small")
    assert cfg.coordinates.bins == cfg.processor.image_size == 256
    assert cfg.processor.tokenizer.path == "Qwen/Qwen2.5-0.5B-Instruct"
    assert cfg.processor.chat.end == "<|im_end|>"
    assert cfg.stages.align.chat.end == "\n"
    assert cfg.processor.geometry["_target_"] == "locvlm.geometry.resize"
    parts = cfg.trainer.accumulate_grad_batches
    assert (cfg.stages.align.batch_size * parts, cfg.data.batch_size * parts) == (256, 128)
    assert (cfg.stages.align.optimizer.lr, cfg.stages.instruct.optimizer.lr) == (1e-3, 2e-5)


def test_the_small_models_parts_in_a_tiny_size_learn_in_both_stages(tmp_path):
    for name, kind in (("talk", talked), ("boxes", annotated)):
        samples = [kind(n) for n in range(8)]
        write_shards(samples, tmp_path / name, quarantine=Quarantine())
    save_qwen(tmp_path / "qwen")
    cfg = composed(
        "+experiment=small",
        f"model.language_model.path={tmp_path}/qwen",
        "model.encoder.pretrained=false",
        "model.encoder.image_size=32",
        "model.encoder.patch_size=8",
        "+model.encoder.options={act_layer:gelu_tanh,patch_size:8,embed_dim:32,depth:2,num_heads:2}",
        f"stages.align.data.train.conversation.shards={tmp_path}/talk",
        f"data.train.localization.shards={tmp_path}/boxes",
        "stages.align.max_steps=2",
        "stages.instruct.max_steps=2",
        "stages.align.batch_size=2",
        "data.batch_size=2",
        "data.num_workers=0",
        "callbacks=features",
        f"callbacks.features.folder={tmp_path}/kept",
        "stages.align.data.num_workers=0",
        "trainer=cpu",
        "trainer.accumulate_grad_batches=2",
        "trainer.log_every_n_steps=1",
    )
    with warnings.catch_warnings():
        train(cfg, tmp_path / "run")
    model = LocVLM.from_pretrained(tmp_path / "run" / "model")
    before = load_file(tmp_path / "qwen" / "model.safetensors")
    language = model.language_model
    assert language.lm_head.weight is language.model.embed_tokens.weight
    assert not torch.equal(language.model.norm.weight, before["model.norm.weight"])
    assert isinstance(model.locate(make_sample().image, "red circle"), list)
    assert len(list((tmp_path / "kept").glob("*/*/*"))) == 8  # both stages show the same images


@pytest.mark.parametrize(
    ("overrides", "empty"),
    [
        (["trainer=fsdp", "model=locvlm_l"], [parts.empty]),
        (["trainer=ddp", "model=locvlm_l"], []),
        (["trainer=fsdp"], [parts.undrawn]),
        (["trainer=ddp"], []),
        (["trainer=fsdp", "model=locvlm_l", "lora=default"], [parts.empty]),
        (["trainer=fsdp", "model=locvlm_l", "checkpoint=runs/mine/model"], [parts.empty]),
    ],
)
def test_only_fsdp_reads_and_draws_a_language_model_in_parts(overrides, empty):
    made = _in_parts(composed(*overrides))
    assert [one.func for one in made.values()] == empty


def test_a_sharded_checkpoint_is_refused_where_nothing_is_sharded(run, tmp_path):
    (tmp_path / "run" / "encoder" / "checkpoints" / "last.ckpt").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"checkpoint is sharded(?s:.*)trainer=fsdp"):
        run("run=[encoder]", "ckpt_path=last")


@pytest.mark.parametrize(
    ("recipe", "rates", "batch_sizes", "epochs"),
    [
        ("llava_v1", (2e-3, 2e-5), (128, 32), 3),
        ("llava_v1_5", (1e-3, 2e-5), (256, 128), 1),
        ("llava_v1_5_lora", (1e-3, 2e-4), (256, 128), 1),
        ("llava_v1_5_qlora", (1e-3, 2e-4), (256, 128), 1),
    ],
)
def test_llavas_recipes_compose_with_the_published_settings(recipe, rates, batch_sizes, epochs):
    cfg = composed("model=locvlm_l", f"recipe={recipe}")
    stages = [cfg.stages[name] for name in cfg.run]
    assert list(cfg.run) == ["align", "instruct"]
    assert tuple(stage.optimizer.lr for stage in stages) == rates
    assert tuple(stage.batch_size or stage.data.batch_size for stage in stages) == batch_sizes
    assert (stages[0].max_epochs, stages[1].max_epochs) == (1, epochs)
    assert {(s.optimizer.weight_decay, s.scheduler.warmup) for s in stages} == {(0.0, 0.03)}
    assert cfg.quantization == ("4bit" if recipe.endswith("qlora") else None)
    if recipe.endswith("lora"):
        assert (cfg.lora.rank, cfg.lora.alpha, cfg.lora.dropout) == (128, 256, 0.05)
        assert list(stages[1].trained) == ["adapter", "lora"]
        assert dict(stages[1].optimizer.rates) == {"adapter": 2e-5}
    else:
        assert cfg.lora is None


@pytest.mark.parametrize("kind", ["null", "4bit", "8bit"])
def test_lora_learns_from_a_saved_model_and_leaves_one_without_lora(run, tmp_path, kind):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    run("run=[encoder]")
    first, second = (tmp_path / name / "model" for name in ("run", "second"))
    run(
        "run=[instruct]",
        f"checkpoint={first}",
        "lora=default",
        "lora.rank=4",
        f"quantization={kind}",
        "stages.instruct.trained=[adapter,lora]",
        "stages.instruct.batch_size=4",
        folder=second.parent,
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {name for name in before if name.startswith("language_model") and "proj" in name}
    assert changed == linear | {name for name in before if name.startswith("adapter.")}
    assert (second / "lora" / "adapter_model.safetensors").is_file()
    assert isinstance(LocVLM.from_pretrained(second).locate(make_sample().image, "red"), list)


def test_a_models_choices_can_be_overridden_on_the_command_line():
    cfg = composed("model=locvlm_l", "geometry=resize", "chat=vicuna_bare")
    assert cfg.geometry["_target_"] == "locvlm.geometry.resize"
    assert cfg.chat.system == ""


@pytest.mark.parametrize("encoder", ["clip_vit_l14_224", "clip_vit_l14_336", "siglip2_b16_256"])
def test_published_encoders_get_the_colours_that_they_were_trained_with(encoder):
    node = composed(f"model/encoder={encoder}").model.encoder
    recorded = timm.get_pretrained_cfg(node.name)
    assert node.pretrained is True
    assert (tuple(node.mean), tuple(node.std)) == (recorded.mean, recorded.std)
    assert recorded.input_size[-1] == node.image_size


def command(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "locvlm.train", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_comes_at_once_from_any_folder(tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("--help", folder=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.startswith("Trains a model in stages: ")
    assert "+experiment=binned224 | " in done.stdout
    # Processor time: wall time depends on what else runs on this machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3


def test_a_mistake_ends_with_a_message_and_without_a_traceback(tmp_path):
    done = command("run=[instuct]", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: no stage named instuct\n  where: run\n  fix:   choose from encoder, pairs, instruct"
    )


def test_the_folder_of_a_sweeps_run_is_one_folder_that_can_be_given_back():
    given = "data.train.localization.shards-shards/mine_run-[instruct]_text-a b"
    name = folder_name(given)
    assert name == "data.train.localization.shards-shards-mine_run--instruct-_text-a-b"
    parsed = OverridesParser.create().parse_override(f"checkpoint=runs/sweep/{name}/model")
    assert parsed.value() == f"runs/sweep/{name}/model"
    assert len(folder_name(given * 9)) < 200
    assert folder_name(given * 9) != folder_name(given * 10)


@pytest.mark.slow
def test_a_sweep_gives_each_job_a_folder_that_can_be_given_back(scenes_folder, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "brief.yaml").write_text(
        "# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.from_dotlist(SMALL))
    )
    done = command(
        "-m",
        "--config-dir=mine",
        "+experiment=brief",
        f"scenes_folder={scenes_folder}",
        "coordinates=nfp,ivb",
        "run=[instruct]",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    models = sorted((tmp_path / "runs" / "small-sweep").glob("*/model"))
    schemes = [type(LocVLM.from_pretrained(m).processor.coordinates).__name__ for m in models]
    assert schemes == ["IVB", "NFP"]
    assert not any(set(str(model.relative_to(tmp_path))) & set("=,") for model in models)


def test_config_files_are_found_where_the_user_has_more(tmp_path):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / "model" / "wide.yaml").write_text(
        "defaults:\n  - tiny\nlanguage_model:\n  options:\n    hidden_size: 256\n"
    )
    done = command("--config-dir", "mine", "model=wide", "--cfg", "job", folder=tmp_path)
    config = yaml.safe_load(done.stdout)
    assert config["model"]["language_model"]["options"]["hidden_size"] == 256
    assert not Path(tmp_path / "runs").exists()


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_to_the_very_same_weights(scenes_folder, tmp_path):
    """With two workers, packed batches and dropout."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "brief.yaml").write_text(
        "# @package _global_\n" + OmegaConf.to_yaml(OmegaConf.from_dotlist(SMALL))
    )
    choices = [
        "--config-dir=mine",
        "+experiment=brief",
        f"scenes_folder={scenes_folder}",
        "run=[pairs,instruct]",
        "stages.pairs.max_steps=21",
        "stages.instruct.max_steps=61",
        "callbacks.checkpoint.every_n_train_steps=2",
        "data.num_workers=2",
        "data.pack=true",
        "+model.language_model.options.attention_dropout=0.2",
    ]
    whole = command(*choices, "name=whole", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "runs" / "killed"
    resume = []
    # After so many checkpoints of a process, and a moment later: in a step, or while one is written
    for stage, n_checkpoints, moment in (
        ("pairs", 1, 0.0),
        ("pairs", 2, 0.05),
        ("instruct", 1, 0.02),
        ("instruct", 3, 0.1),
        ("instruct", 2, 0.0),
    ):
        process = subprocess.Popen(
            [sys.executable, "-m", "locvlm.train", *choices, "name=killed", *resume],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        wait_for_checkpoints(process, killed / stage / "checkpoints" / "last.ckpt", n_checkpoints)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        resume = ["ckpt_path=last"]
    assert "instruct" not in (killed / "finished.json").read_text()
    done = command(*choices, "name=killed", *resume, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, expected = weights(killed), weights(tmp_path / "runs" / "whole")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_two_processes_killed_in_an_epoch_go_on_to_the_very_same_weights(scenes_folder, tmp_path):
    choices = [
        *SMALL,
        f"scenes_folder={scenes_folder}",
        "run=[instruct]",
        "stages.instruct.max_steps=30",
        "data.epoch_length=400",  # 100 steps: whenever it is killed, it is within the first epoch
        "data.num_workers=1",
        "data.pack=true",
        "trainer.devices=2",
        "trainer.strategy=ddp",
    ]
    whole = command(*choices, "name=whole", folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = tmp_path / "runs" / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "locvlm.train", *choices, "name=killed"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_checkpoints(process, killed / "instruct" / "checkpoints" / "last.ckpt", 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    resume = [*choices, "name=killed", "ckpt_path=last"]
    alone = command(*resume, "trainer.devices=1", folder=tmp_path)
    assert alone.returncode == 1
    assert "in the middle of an epoch: samples per step was 4 and is 2" in alone.stderr
    done = command(*resume, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    ours, expected = weights(killed), weights(tmp_path / "runs" / "whole")
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def wait_for_checkpoints(process, path, number):
    """Waits until a process has written a file so many times."""
    seen = {path.stat().st_mtime_ns} if path.exists() else set()
    for _ in range(number):
        while True:
            assert process.poll() is None, process.communicate()[1].decode()
            if path.exists() and (now := path.stat().st_mtime_ns) not in seen:
                seen.add(now)
                break
            time.sleep(0.002)
