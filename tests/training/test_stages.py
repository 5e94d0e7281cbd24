import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from locvlm import LocVLM
from locvlm.errors import ConfigError
from locvlm.models.lora import add_lora, is_lora
from locvlm.models.quantization import quantize
from locvlm.training import (
    LocVLMModule,
    MuonAdamW,
    RandomState,
    Stage,
    adamw,
    adamw8bit,
    run_stages,
    wsd,
)
from tests.tiny import make_model


class Stop(Callback):
    """Ends the process, so to speak, after some steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("the power went out")


@pytest.fixture
def stage(trainer, dialogues):
    """Makes a stage of 9 steps that stores its state every 2 steps."""
    muon = partial(MuonAdamW, lr=4e-3, adamw_lr=8e-3)

    def make(name, trained=("adapter", "language_model"), stop_at=None, optimizer=muon):
        def make_trainer(folder):
            checkpoint = ModelCheckpoint(
                save_last=True, save_top_k=0, every_n_train_steps=2, enable_version_counter=False
            )
            return trainer(
                max_steps=9,
                default_root_dir=folder,
                logger=CSVLogger(folder, name="", version=""),
                log_every_n_steps=1,
                enable_checkpointing=True,
                callbacks=[checkpoint, RandomState(), *([Stop(stop_at)] if stop_at else [])],
            )

        module = partial(
            LocVLMModule,
            optimizer=optimizer,
            scheduler=wsd,
            trained=trained,
        )
        return Stage(name, module, dialogues, make_trainer)

    return make


def same(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_stages_run_in_order_and_leave_a_model_and_their_logs(stage, tmp_path, caplog):
    caplog.set_level("INFO")
    model = make_model()
    encoder = model.encoder.vit.pos_embed.clone()
    metrics = run_stages(model, [stage("align", ["adapter"]), stage("instruct")], tmp_path)
    assert metrics["train/loss"] < 10
    assert metrics["val/loss"] < 10
    assert torch.equal(model.encoder.vit.pos_embed, encoder)
    assert same(LocVLM.from_pretrained(tmp_path / "model"), model)
    assert f"stage instruct is finished; model: {tmp_path / 'model'}" in caplog.text
    assert json.loads((tmp_path / "finished.json").read_text()) == ["align", "instruct"]
    for name in ("align", "instruct"):
        assert (tmp_path / name / "metrics.csv").is_file()
        assert (tmp_path / name / "checkpoints" / "last.ckpt").is_file()


def test_a_stage_that_ends_within_an_epoch_is_validated_at_its_end(stage, tmp_path):
    metrics = run_stages(make_model(), [stage("align")], tmp_path)
    rows = (tmp_path / "align" / "metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    assert float(last["val/loss"]) == pytest.approx(metrics["val/loss"])
    assert int(last["step"]) == 9


@pytest.mark.parametrize(("n_steps", "n_validations"), [(8, 2), (9, 3)])
def test_a_stage_is_validated_once_after_its_last_step(
    stage, tmp_path, trainer, n_steps, n_validations
):
    seen = []

    class Count(Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(trainer.global_step)

    def make_trainer(folder):
        return trainer(max_steps=n_steps, default_root_dir=folder, callbacks=[Count()])

    metrics = run_stages(make_model(), [replace(stage("a"), trainer=make_trainer)], tmp_path)
    assert seen == [4, 8, 9][:n_validations]
    assert "val/loss" in metrics


def test_a_used_folder_is_refused_with_both_ways_out(stage, tmp_path):
    run_stages(make_model(), [stage("align")], tmp_path)
    with pytest.raises(ConfigError, match=r"a run in this folder(?s:.*)ckpt_path=last.*name="):
        run_stages(make_model(), [stage("align")], tmp_path)


@pytest.mark.parametrize("stop_at", [5, 7])
def test_a_resumed_run_ends_as_if_never_interrupted(stage, tmp_path, stop_at):
    expected = make_model()
    run_stages(expected, [stage("align", ["adapter"]), stage("instruct")], tmp_path / "whole")

    with pytest.raises(RuntimeError, match="power went out"):
        run_stages(
            make_model(),
            [stage("align", ["adapter"]), stage("instruct", stop_at=stop_at)],
            tmp_path / "cut",
        )
    resumed = make_model(seed=7)  # whatever it begins with, the run's own weights count
    run_stages(
        resumed, [stage("align", ["adapter"]), stage("instruct")], tmp_path / "cut", resume=True
    )
    assert same(resumed, expected)
    assert same(LocVLM.from_pretrained(tmp_path / "cut" / "model"), expected)


@pytest.mark.parametrize(
    ("stopped", "kind", "optimizer"),
    [
        ("align", None, adamw),
        ("instruct", None, adamw8bit),
        ("instruct", "4bit", adamw),
        ("more", "8bit", adamw8bit),
    ],
)
def test_a_resumed_run_with_lora_ends_as_if_never_interrupted(
    stage, tmp_path, stopped, kind, optimizer
):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")

    def build():
        model = make_model(hidden_size=64)
        model = model if kind is None else quantize(model, kind).to("cpu")
        return add_lora(model, rank=64, alpha=128, dropout=0.2)

    def stages(stop_in=None):
        make = partial(optimizer, lr=1e-2, rates={"adapter": 1e-3})
        parts = {"align": ["adapter"], "instruct": ["adapter", "lora"], "more": ["adapter", "lora"]}
        # Within an epoch: at its start the loader of these tests draws from torch's random state.
        return [
            stage(name, trained, stop_at=7 if name == stop_in else None, optimizer=make)
            for name, trained in parts.items()
        ]

    expected = build()
    run_stages(expected, stages(), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power went out"):
        run_stages(build(), stages(stop_in=stopped), tmp_path / "cut")
    resumed = build()
    run_stages(resumed, stages(), tmp_path / "cut", resume=True)
    begun, ours, theirs = (dict(m.named_parameters()) for m in (build(), resumed, expected))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert not any(torch.equal(begun[name], ours[name]) for name in ours if is_lora(name))


def test_a_run_stopped_in_the_first_stage_can_not_be_overwritten_but_resumed(stage, tmp_path):
    stages = [stage("align", stop_at=3)]
    with pytest.raises(RuntimeError):
        run_stages(make_model(), stages, tmp_path)
    with pytest.raises(ConfigError):
        run_stages(make_model(), stages, tmp_path)
    run_stages(make_model(), [stage("align")], tmp_path, resume=True)
    logs = sorted(path.name for path in (tmp_path / "align").glob("metrics*.csv"))
    assert logs == ["metrics-1.csv", "metrics.csv"]


def test_finished_stages_are_skipped(stage, tmp_path, caplog):
    caplog.set_level("INFO")
    model = make_model()
    run_stages(model, [stage("align")], tmp_path)
    assert "nothing is left to train" not in caplog.text
    other = make_model(seed=7)
    assert run_stages(other, [stage("align", stop_at=1)], tmp_path, resume=True) == {}
    assert f"name=<another> checkpoint={tmp_path / 'model'}" in caplog.text
    assert same(other, model)


def test_resuming_where_nothing_has_run_begins(stage, tmp_path):
    run_stages(make_model(), [stage("align")], tmp_path, resume=True)
    assert (tmp_path / "model" / "config.json").is_file()


def test_a_stage_may_train_by_a_module_of_its_own(stage, trainer, dialogues, tmp_path):
    class EncoderOnly(LocVLMModule):
        def training_step(self, batch, batch_idx):
            return self.model.encoder(batch["pixel_values"]).square().mean()

    model = make_model()
    before = model.encoder.vit.pos_embed.clone()
    module = partial(
        EncoderOnly, optimizer=partial(torch.optim.AdamW, lr=1e-2), trained=["encoder"]
    )
    own = Stage(
        "encoder",
        module,
        dialogues,
        lambda folder: trainer(max_steps=2, default_root_dir=folder, limit_val_batches=0),
    )
    run_stages(model, [own, stage("instruct")], tmp_path)
    assert not torch.equal(model.encoder.vit.pos_embed, before)


@pytest.mark.parametrize(
    ("step", "what_then"), [(1, "begins it anew"), (3, "goes on from its last checkpoint")]
)
def test_an_interrupt_is_an_interrupt_and_says_what_then(stage, tmp_path, caplog, step, what_then):
    caplog.set_level("INFO")

    class Interrupted(LocVLMModule):
        def training_step(self, batch, batch_idx):
            if self.trainer.global_step == step:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    stopped = replace(
        stage("one"),
        module=lambda model: Interrupted(model, partial(MuonAdamW, lr=4e-3, adamw_lr=8e-3)),
    )
    with pytest.raises(KeyboardInterrupt):
        run_stages(make_model(), [stopped], tmp_path)
    said = f"stage one was interrupted after step {step}; the same command with ckpt_path=last "
    assert caplog.messages[-1] == said + what_then
