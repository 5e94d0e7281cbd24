"""Several processes on the CPU do what one does."""

import csv
import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from locvlm import LocVLM
from locvlm.models.language import embeddings, fresh
from locvlm.models.llava_export import export_llava
from tests.models.test_parts import to_bin, without_prefix

SMALL = [
    "scenes.splits.train=26",
    "scenes.splits.val=6",
    "scenes.splits.test=2",
    "scenes.n_pairs=26",
    "stages.encoder.max_steps=2",
    "stages.pairs.max_steps=2",
    "stages.instruct.max_steps=6",
    "data.val_length=6",
    "data.epoch_length=14",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoint.every_n_train_steps=2",
    "model.encoder.options.depth=2",
    "logger=csv",
    # Muon orthogonalizes in bfloat16, which makes much of float errors.
    "optimizer@stages.instruct.optimizer=adamw",
    "stages.instruct.optimizer.lr=1e-3",
    "~stages.instruct.optimizer.adamw_lr",
]
ALONE = ["data.batch_size=4", "stages.encoder.data.batch_size=4"]
TWO = [
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.precision=32-true",
    "data.batch_size=2",
    "stages.encoder.data.batch_size=2",
]
DDP, FSDP = ["trainer=ddp", *TWO], ["trainer=fsdp", *TWO]
# The command, which also tells how much of the language model each process holds when it is asked
# to shard it: LoRA aside, for that is small.
WATCHED = """
from locvlm.models.lora import is_lora
from locvlm.train import main
from locvlm.training import strategies

shard = strategies.shard

def watch(module, *rest):
    if not isinstance(module.model, strategies.FSDPModule):
        weights = module.model.language_model.named_parameters()
        held = sum(one.nbytes for name, one in weights if not one.is_meta and not is_lora(name))
        print(f"holds {held} bytes")
    shard(module, *rest)

strategies.shard = watch
main()
"""


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Runs the command in one folder and gives the folder of the run; fails where it fails."""
    folder = tmp_path_factory.mktemp("scale")
    (folder / "watched.py").write_text(WATCHED)

    def run(name, *overrides, held=None):
        command = ["-m", "locvlm.train"] if held is None else ["watched.py"]
        done = subprocess.run(
            [sys.executable, *command, f"name={name}", *SMALL, *overrides],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if held is not None:
            assert done.stdout.count("holds ") == done.stdout.count(f"holds {held} bytes") == 2
        return folder / "runs" / name

    return run


@pytest.fixture(scope="module")
def alone(train):
    return train("alone", "run=[instruct]", *ALONE)


def losses(run, stage="instruct", kind="train/loss"):
    with (run / stage / "metrics.csv").open() as file:
        return [float(row[kind]) for row in csv.DictReader(file) if row.get(kind)]


def weights(run):
    return load_file(run / "model" / "model.safetensors")


def check_same(run, expected, tolerance=1e-4):
    """Loss curves and saved models are equal within float error."""
    assert losses(run) == pytest.approx(losses(expected), abs=tolerance)
    val = losses(expected, kind="val/loss")
    assert losses(run, kind="val/loss") == pytest.approx(val, abs=tolerance)
    ours, theirs = weights(run), weights(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        torch.testing.assert_close(ours[name], tensor, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
def test_two_ddp_processes_train_as_one_with_their_batches_together(train, alone):
    check_same(train("ddp", "run=[instruct]", *DDP), alone)


@pytest.mark.slow
def test_two_sharded_processes_train_as_one_with_their_batches_together(train, alone):
    check_same(train("fsdp", "run=[instruct]", *FSDP, held=0), alone)


@pytest.mark.slow
def test_so_do_two_replicas_each_sharded_over_two_processes(train):
    # Lengths that four processes share without a rest.
    options = ["run=[instruct]", "data.epoch_length=16", "data.val_length=8"]
    four = ["trainer.devices=4", "trainer.strategy.replicas=2", "data.batch_size=1"]
    run = train("replicas", *options, *FSDP, *four)
    check_same(run, train("no-replicas", *options, *ALONE))


@pytest.mark.slow
def test_sharded_processes_accumulate_and_compute_activations_again_as_one_does(train):
    options = ["run=[instruct]", "trainer.accumulate_grad_batches=2"]
    alone = train("accumulates", *options, *ALONE)
    check_same(train("saves", *options, *FSDP, "checkpoint_activations=true"), alone)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with a C++ compiler")
@pytest.mark.parametrize("strategy", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_two_processes_with_compiled_blocks_train_as_one_without(train, alone, strategy):
    name = f"compiled-{strategy[0].removeprefix('trainer=')}"
    check_same(train(name, "run=[instruct]", *strategy, "compile=true"), alone, tolerance=1e-3)


@pytest.mark.slow
def test_sharded_processes_train_in_bfloat16(train, alone):
    run = train("bfloat16", "run=[instruct]", *FSDP, "trainer.precision=bf16-mixed")
    assert losses(run) == pytest.approx(losses(alone), abs=0.05)
    assert {tensor.dtype for tensor in weights(run).values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "after"),
    [
        ([], FSDP),
        ([], [*FSDP, "trainer.devices=1", *ALONE]),
        (["lora=default", "stages.instruct.trained=[adapter,lora]", "lora.dropout=0"], FSDP),
    ],
    ids=["as-before", "on-one-process", "with-lora"],
)
def test_a_sharded_run_goes_on_to_the_weights_of_a_whole_one(train, request, extra, after):
    options = ["run=[instruct]", "stages.instruct.scheduler=null", *extra]
    name = request.node.callspec.id
    whole = train(f"whole-{name}", *options, *ALONE)
    stopped = train(name, *options, *FSDP, "stages.instruct.max_steps=4")
    (stopped / "finished.json").unlink()  # as if it had been killed there
    run = train(name, *options, *after, "ckpt_path=last")
    assert losses(run) == pytest.approx(losses(whole)[4:], abs=1e-4)
    ours, theirs = weights(run), weights(whole)
    assert ours.keys() == theirs.keys()
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor, atol=2e-4, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_stages_run_in_two_processes_and_the_first_one_writes(train, strategy):
    run = train(f"stages-{strategy}", f"trainer={strategy}", *TWO)
    assert json.loads((run / "finished.json").read_text()) == ["encoder", "pairs", "instruct"]
    assert not list(run.rglob(".tmp*"))
    for stage, n in (("encoder", 2), ("pairs", 2), ("instruct", 6)):
        assert len(losses(run, stage)) == n


@pytest.fixture(scope="module")
def pretrained(alone):
    """Makes the options for a language model from a folder: of the kind that is asked for."""

    def make(kind):
        folder = alone / kind
        model = LocVLM.from_pretrained(alone / "model").language_model
        if kind == "tied":
            model.config.tie_word_embeddings = True
            model.tie_weights()
        if kind == "gpt2":
            sizes = {"n_embd": 128, "n_layer": 2, "n_head": 4}
            sizes |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0)  # draw alike
            model = fresh("gpt2", options=sizes, vocab_size=embeddings(model).num_embeddings)
        model.save_pretrained(folder, max_shard_size="1MB")
        if kind == "gpt2":
            without_prefix(folder, "transformer.")
        if kind == "bin":
            to_bin(folder)
        return [
            "run=[instruct]",
            "model/language_model=vicuna_7b_v1_5",
            f"model.language_model.path={folder}",
            "model.smooth_numbers=0",
        ]

    return make


LORA = ["lora=default", "stages.instruct.trained=[adapter,lora]", "lora.dropout=0"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "extra"),
    [("bin", []), ("tied", []), ("gpt2", []), ("safetensors", LORA)],
    ids=["bin", "tied", "gpt2", "lora"],
)
def test_processes_that_read_their_parts_train_as_one_that_has_all(
    train, pretrained, request, kind, extra
):
    name = request.node.callspec.id
    options = [*pretrained(kind), *extra]
    parts = train(f"parts-{name}", *options, *FSDP, held=0)
    check_same(parts, train(f"whole-{name}", *options, *ALONE))


@pytest.mark.slow
def test_quantized_processes_train_as_one_and_go_on(train, pretrained):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    options = [*pretrained("safetensors"), *LORA, "quantization=4bit"]
    options += ["stages.instruct.scheduler=null"]
    whole = train("whole-4bit", *options, *ALONE)
    parts = train("parts-4bit", *options, *FSDP, "stages.instruct.max_steps=4", held=0)
    # Layers compute in bfloat16, whose products of more rows are rounded otherwise.
    assert losses(parts) == pytest.approx(losses(whole)[:4], abs=5e-3)
    (parts / "finished.json").unlink()  # as if it had been killed there
    run = train("parts-4bit", *options, *FSDP, "ckpt_path=last", held=0)
    assert losses(run) == pytest.approx(losses(whole)[4:], abs=5e-3)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], weight, atol=5e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["locvlm", "llava"])
def test_so_do_those_that_begin_from_a_checkpoint(train, alone, pretrained, kind):
    folder = alone / "model"
    if kind == "llava":
        folder = alone / "llava"
        export_llava(LocVLM.from_pretrained(alone / "model"), folder)
    options = [*pretrained("safetensors"), *LORA, f"checkpoint={folder}"]
    parts = train(f"parts-{kind}", *options, *FSDP, held=0)
    check_same(parts, train(f"whole-{kind}", *options, *ALONE))


@pytest.mark.slow
def test_so_do_those_that_go_on_with_a_run(train, pretrained):
    options = [*pretrained("safetensors"), "stages.instruct.scheduler=null", *LORA]
    whole = train("whole-on", *options, *ALONE)
    stopped = train("on", *options, *FSDP, "stages.instruct.max_steps=4")
    (stopped / "finished.json").unlink()  # as if it had been killed there
    run = train("on", *options, *FSDP, "ckpt_path=last", held=0)
    assert losses(run) == pytest.approx(losses(whole)[4:], abs=1e-4)
    # A stage that follows begins from the saved model.
    more = [*options, "run=[instruct,pairs]", "stages.pairs.trained=[adapter]"]
    follow = train("on", *more, *FSDP, "ckpt_path=last", held=0)
    expected = train("whole-on", *more, *ALONE, "ckpt_path=last")
    assert losses(follow, "pairs") == pytest.approx(losses(expected, "pairs"), abs=1e-4)
