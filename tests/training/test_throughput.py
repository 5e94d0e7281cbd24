import csv
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from locvlm.training import Bar, LocVLMModule, Throughput, adamw, throughput
from locvlm.training.flops import Work, cost, work
from tests.tiny import make_model

PEAK = 1e9


@pytest.fixture
def logged(trainer, tmp_path, monkeypatch):
    """Runs a training whose clock goes on by a second each time someone looks at it."""
    clock = count()
    fake = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr("locvlm.training.throughput.time", fake)

    def fit(data, *callbacks, module=None, **options):
        run = trainer(
            callbacks=[Throughput(every=2, peak=PEAK), *callbacks],
            logger=CSVLogger(tmp_path, name="", version=""),
            log_every_n_steps=1,
            **options,
        )
        run.fit(module or LocVLMModule(make_model(), partial(adamw, lr=1e-3)), datamodule=data)
        return columns(tmp_path / "metrics.csv")

    return fit


def columns(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    # Between two measurements Lightning says the last one again.
    rows = [row for row in rows if row["train/loss"] and int(row["step"]) % 2]
    return {key: [float(row[key]) for row in rows if row[key]] for key in rows[0]}


def test_speed_use_waiting_and_memory_are_logged(logged, dialogues):
    module = LocVLMModule(make_model(), partial(adamw, lr=1e-3))
    data = dialogues()
    found = logged(data, module=module, max_steps=4)
    # The second look ends the wait for a batch, the third its step: two samples in two seconds.
    assert found["train/samples_per_s"] == [1.0, 1.0]
    assert found["train/data_wait"] == [0.5, 0.5]
    [first, second, third, fourth] = (Work(*work(b).tolist()) for b in data.train_dataloader())
    assert found["train/tokens_per_s"] == [second.tokens / 2, (third.tokens + fourth.tokens) / 4]
    flops = cost(module.model).flops(second)
    assert found["train/mfu"][0] == pytest.approx(flops / 2 / PEAK)
    assert 0.05 < found["train/peak_gib"][0] < 100
    assert first.examples == 2


def test_padding_is_logged(logged, dialogues):
    data = dialogues()
    shorter = data.examples[2]
    for name in ("input_ids", "labels", "loss_weights"):
        shorter[name] = shorter[name][:-4]
    found = logged(data, max_steps=4)
    length = len(data.examples[3]["input_ids"])
    assert found["train/padding"] == pytest.approx([4 / (2 * length), 0.0], abs=1e-6)


def test_validation_and_checkpoints_are_no_time_of_training(logged, dialogues, tmp_path):
    class Slow(ModelCheckpoint):
        def on_save_checkpoint(self, trainer, pl_module, checkpoint):
            for _ in range(100):
                throughput.time.monotonic()

    saving = Slow(tmp_path, every_n_train_steps=3, save_top_k=-1)
    found = logged(
        dialogues(), saving, max_steps=8, enable_checkpointing=True, val_check_interval=2
    )
    assert set(found["train/samples_per_s"]) == {1.0}


def test_there_is_no_utilization_where_the_peak_is_not_known(trainer, dialogues, tmp_path):
    run = trainer(
        max_steps=4,
        callbacks=[Throughput(every=2)],
        logger=CSVLogger(tmp_path, name="", version=""),
        log_every_n_steps=1,
    )
    run.fit(LocVLMModule(make_model(), partial(adamw, lr=1e-3)), datamodule=dialogues())
    found = columns(tmp_path / "metrics.csv")
    assert all(speed > 0 for speed in found["train/tokens_per_s"])
    assert "train/mfu" not in found


@pytest.mark.parametrize(("bar", "is_given"), [(TQDMProgressBar, True), (Bar, False)])
def test_a_bar_of_lightnings_is_given_them_and_ours_reads_them_itself(
    trainer, dialogues, bar, is_given
):
    callbacks = [Throughput(every=2, peak=PEAK), bar()]
    run = trainer(max_steps=4, callbacks=callbacks, enable_progress_bar=True)
    run.fit(LocVLMModule(make_model(), partial(adamw, lr=1e-3)), datamodule=dialogues())
    given = {name.removeprefix("train/") for name in run.progress_bar_metrics}
    shown = {"loss", "samples_per_s", "tokens_per_s", "mfu", "peak_gib", "data_wait"}
    assert given & shown == (shown if is_given else set())
    said = Bar._metrics(run)
    assert all(f"{name} " in said for name in shown)
    assert "padding" not in said
