import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from locvlm.chat import ChatFormat
from locvlm.data import LocVLMDataModule, Source
from locvlm.errors import ConfigError, DataError
from tests.data.conftest import annotated, talked

REPOSITORY = Path(__file__).parents[2]


class Recorder(LightningModule):
    """Writes down which images it is shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch["pixel_values"].sum((1, 2, 3)).tolist()))
        return self.weight * batch["input_ids"].shape[0]

    def validation_step(self, batch, batch_idx):
        self.validated += batch["pixel_values"].sum((1, 2, 3)).tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def epoch(self, number):
        return [image for epoch, images in self.seen for image in images if epoch == number]


class PowerCut(Callback):
    """Ends training after a number of steps, when the next batch is there already."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("the power went out")


@pytest.fixture
def data(shards, processor, objective):
    """Makes data modules of 10 annotated images and 6 talks; an epoch has 8 batches of two."""
    train = {
        "localization": Source(shards(map(annotated, range(10)), "located"), objective),
        "conversation": Source(shards(map(talked, range(10, 16)), "talked")),
    }
    val = {"conversation": Source(shards(map(talked, range(5)), "val"))}
    return lambda **options: LocVLMDataModule(
        processor, train, **({"val": val, "batch_size": 2} | options)
    )


@pytest.fixture
def fit(tmp_path):
    """Trains a recorder."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    def run(data, *callbacks, ckpt_path=None, **options):
        recorder = Recorder()
        checkpoint = ModelCheckpoint(
            tmp_path / "checkpoints",
            save_last=True,
            save_top_k=0,
            every_n_train_steps=1,
            enable_version_counter=False,
        )
        settings = {
            "accelerator": "cpu",
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "max_epochs": 2,
        }
        trainer = Trainer(**(settings | options), callbacks=[checkpoint, *callbacks])
        try:
            trainer.fit(recorder, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        except RuntimeError as error:
            assert "power" in str(error)
        return recorder

    run.last = tmp_path / "checkpoints" / "last.ckpt"
    return run


def test_each_epoch_shows_all_images_in_another_order(data, fit):
    recorder = fit(data(), max_epochs=3)
    epochs = [recorder.epoch(number) for number in range(3)]
    assert len(set(epochs[0])) == len(epochs[0]) == 16
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]


def test_validation_shows_the_same_each_time(data, fit):
    validated = fit(data()).validated
    assert len(validated) == 10
    assert validated[:5] == validated[5:]
    assert len(fit(data(val_length=3)).validated) == 6
    assert fit(data(val=None)).validated == []


@pytest.mark.parametrize(
    ("stop", "num_workers"), [(1, 0), (7, 0), (8, 0), (9, 0), (13, 0), (5, 2), (8, 2)]
)
def test_a_run_that_broke_off_goes_on_with_the_very_next_batch(data, fit, stop, num_workers):
    whole = fit(data()).seen
    cut = fit(data(num_workers=num_workers), PowerCut(stop)).seen
    assert len(cut) == stop
    rest = fit(data(num_workers=num_workers), ckpt_path=str(fit.last)).seen
    assert [*cut, *rest] == whole


@pytest.mark.parametrize("first", [{"max_steps": 5}, {"max_steps": 8}, {"max_epochs": 1}])
def test_a_run_that_ended_goes_on_where_it_ended(data, fit, first):
    whole = fit(data()).seen
    begun = fit(data(), **first).seen
    rest = fit(data(), ckpt_path=str(fit.last)).seen
    assert [*begun, *rest] == whole


def test_a_resumed_run_may_have_other_workers(data, fit):
    whole = fit(data()).seen
    cut = fit(data(num_workers=2), PowerCut(3)).seen
    assert [*cut, *fit(data(num_workers=1), ckpt_path=str(fit.last)).seen] == whole


def test_a_resumed_run_with_another_batch_size_is_refused_in_the_middle_of_an_epoch(data, fit):
    fit(data(), PowerCut(3))
    with pytest.raises(ConfigError, match="samples per step was 2 and is 4"):
        fit(data(batch_size=4), ckpt_path=str(fit.last))


def test_weights_and_length_of_an_epoch_are_as_given(shards, processor):
    train = {
        "one": Source(shards(map(talked, range(9)), "one"), weight=3),
        "other": Source(shards(map(talked, range(100, 103)), "other"), weight=1),
    }
    data = LocVLMDataModule(processor, train, batch_size=4, epoch_length=40)
    loader = data.train_dataloader()
    assert len(loader) == 10
    keys = [data.examples("train").sample(draw)[0].key for draw in _draws(loader)]
    assert sum(int(key.split()[1]) >= 100 for key in keys) == 10


def _draws(loader):
    return [draw for batch in loader.sampler for draw in batch]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_skips_bad_samples_and_stops_past_the_limit(
    shards, processor, fit, num_workers, caplog
):
    folder = shards(map(talked, range(8)), per_shard=8)
    data = (folder / "000000.tar").read_bytes()
    (folder / "000000.tar").write_bytes(data.replace(b"\x89PNG", b"\x00PNG", 3))

    def module(limit):
        source = {"talks": Source(folder)}
        return LocVLMDataModule(
            processor, source, batch_size=2, num_workers=num_workers, max_bad_samples=limit
        )

    recorder = fit(module(3))
    assert [len(images) for _, images in recorder.seen] == [2] * 8
    assert caplog.text.count("skips a bad sample") == 1
    assert "skipped 3 bad samples" in caplog.text
    with pytest.raises(DataError, match=r"3 bad samples, 2 allowed(?s:.*)sample 000000-00000"):
        fit(module(2))


def test_another_chat_format_serves_one_stage_only(shards, processor):
    plain = ChatFormat(user="", assistant="", answer="{text}", end="\n", image="<image>")
    source = {"talks": Source(shards([talked(0)]))}
    data = LocVLMDataModule(processor, source, batch_size=1, chat=plain)
    assert data.processor.chat == plain
    assert processor.chat != plain
    assert "USER" not in processor.tokenizer.decode(
        next(iter(data.train_dataloader()))["input_ids"][0]
    )


def test_no_training_source_is_a_mistake(processor):
    with pytest.raises(ConfigError, match=r"no source of train data.*\n.*\n.*shards=FOLDER"):
        LocVLMDataModule(processor, {"talks": Source(None)}, batch_size=1).train_dataloader()


RANK = """
import sys
import torch
from locvlm.data import LocVLMDataModule, Source
from lightning import Trainer
from tests.data.test_module import Recorder
from tests.tiny import make_processor

talks = {"talks": Source(sys.argv[1])}
data = LocVLMDataModule(make_processor(), talks, val=talks, batch_size=2)
recorder = Recorder()
trainer = Trainer(
    accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
    enable_model_summary=False, max_epochs=2, enable_checkpointing=False,
)
trainer.fit(recorder, datamodule=data)
for epoch in range(2):
    images = " ".join(map(str, recorder.epoch(epoch)))
    print(f"RANK {epoch} {images}\\n", end="", flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_each_epoch(shards, tmp_path):
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    done = subprocess.run(
        [sys.executable, script, str(shards(map(talked, range(12))))],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RANK")]
    assert len(lines) == 4
    for epoch in "01":
        images = [image for number, *rest in lines if number == epoch for image in rest]
        assert len(images) == len(set(images)) == 12


@pytest.mark.parametrize(
    ("name", "number", "least"),
    [
        *(("batch_size", number, 1) for number in (0, 2.5, "four")),
        *((name, -3, 1) for name in ("epoch_length", "val_length")),
        *((name, -1, 0) for name in ("num_workers", "seed")),
    ],
)
def test_numbers_that_cannot_be_are_named(processor, name, number, least):
    options = {"batch_size": 1, name: number}
    with pytest.raises(ConfigError, match=f"{name} .*at least {least}, got(?s:.*)data.{name}"):
        LocVLMDataModule(processor, {"all": Source(None)}, **options)
