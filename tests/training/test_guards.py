import json
import re
from functools import partial
from itertools import count

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from locvlm.data import LocVLMDataModule, Quarantine, Source, write_shards
from locvlm.errors import LocVLMError
from locvlm.training import FiniteLoss, LocVLMModule, OutOfMemory, adamw
from tests.data.conftest import talked
from tests.tiny import make_model, make_processor

ALWAYS = range(100)


def module(*bad, how=None):
    """A module whose loss is NaN in the batches numbered `bad`, counted from 0."""
    model = make_model()
    number = count()

    def spoil(model, inputs, loss):
        spoiled = model.training and next(number) in bad
        return loss * float(how or "nan") if spoiled else loss

    model.register_forward_hook(spoil)
    return LocVLMModule(model, partial(adamw, lr=1e-2))


def weights(module):
    return torch.cat([weight.detach().flatten() for weight in module.model.parameters()])


def records(folder):
    lines = (folder / "skipped-0.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("how", ["nan", "inf"])
def test_a_skipped_step_leaves_no_trace_in_weights_and_optimizer(trainer, dialogues, how):
    broken, clean = module(1, how=how), module()
    trainer(max_steps=4, callbacks=[FiniteLoss()]).fit(broken, datamodule=dialogues())
    data = dialogues()
    del data.examples[2:4]  # the second batch
    trainer(max_steps=3).fit(clean, datamodule=data)
    assert torch.equal(weights(broken), weights(clean))
    states = [one.trainer.optimizers[0].state_dict()["state"] for one in (broken, clean)]
    moments = [[state["exp_avg_sq"] for state in one.values()] for one in states]
    assert all(torch.equal(a, b) for a, b in zip(*moments, strict=True))


def test_skipped_steps_are_counted_and_their_samples_named(trainer, tmp_path):
    folder = tmp_path / "talks"
    write_shards([talked(n) for n in range(8)], folder, quarantine=Quarantine())
    talks = {"conversation": Source(str(folder))}
    data = LocVLMDataModule(make_processor(), talks, batch_size=2)
    shown = []

    class Spy(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            shown.append(batch["pixel_values"][:, 0, 0, 0].tolist())  # `talked` paints its number

    run = trainer(
        max_steps=4,
        callbacks=[FiniteLoss(), Spy()],
        logger=CSVLogger(tmp_path, name="", version=""),
        log_every_n_steps=1,
    )
    run.fit(module(1, 3), datamodule=data)
    assert run.logged_metrics["train/skipped_steps"] == 2
    found = records(tmp_path)
    assert [(one["step"], one["loss"]) for one in found] == [(1, "nan"), (3, "nan")]
    named = [[int(re.findall(r"record (\d+)", s)[0]) for s in one["samples"]] for one in found]
    assert named == [shown[1], shown[3]]


def test_many_in_a_row_stop_the_training_and_keep_the_last_batch(trainer, dialogues, tmp_path):
    broken = module(*ALWAYS)
    before = weights(broken).clone()
    message = r"not finite in 3 steps in a row.*nan(?s:.*)step 2 of(?s:.*)lower the learning rate"
    with pytest.raises(LocVLMError, match=message):
        trainer(max_steps=8, callbacks=[FiniteLoss(max_skipped=3)]).fit(
            broken, datamodule=dialogues()
        )
    assert torch.equal(weights(broken), before)
    batch = load_file(tmp_path / "skipped-0.safetensors")
    expected = list(dialogues().train_dataloader())[2]
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_as_many_with_good_ones_between_do_not(trainer, dialogues):
    run = trainer(max_steps=8, callbacks=[FiniteLoss(max_skipped=2)])
    run.fit(module(0, 2, 4, 6), datamodule=dialogues())
    assert run.global_step == 8


def test_a_gradient_that_is_no_number_counts_where_the_loss_is_fine(trainer, dialogues, tmp_path):
    broken = module()
    before = weights(broken).clone()
    weight = broken.model.adapter.net[0].weight
    weight.register_hook(lambda gradient: gradient * torch.inf)
    trainer(max_steps=2, callbacks=[FiniteLoss()]).fit(broken, datamodule=dialogues())
    assert torch.equal(weights(broken), before)
    assert len(records(tmp_path)) == 2
    assert float(records(tmp_path)[0]["loss"]) > 0


def test_one_of_several_batches_of_a_step_is_found(trainer, dialogues, tmp_path):
    run = trainer(max_steps=2, accumulate_grad_batches=2, callbacks=[FiniteLoss(max_skipped=1)])
    with pytest.raises(LocVLMError, match="in 1 steps"):
        run.fit(module(0), datamodule=dialogues())
    batch = load_file(tmp_path / "skipped-0.safetensors")
    first = next(iter(dialogues().train_dataloader()))
    assert torch.equal(batch["input_ids"], first["input_ids"])
    assert len(records(tmp_path)) == 1


def test_ranks_skip_together(trainer, dialogues, monkeypatch):
    run = trainer(max_steps=2, callbacks=[FiniteLoss()])
    monkeypatch.setattr(run.strategy, "reduce", lambda broken, reduce_op: broken + 1)
    alone = module()
    before = weights(alone).clone()
    run.fit(alone, datamodule=dialogues())
    assert torch.equal(weights(alone), before)


def test_the_device_is_read_once_per_step_of_the_optimizer(trainer, dialogues):
    class Reads(TorchDispatchMode):
        n = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.n += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    class Counted(FiniteLoss):
        reads = Reads()

        def on_before_backward(self, *arguments):
            with self.reads:
                super().on_before_backward(*arguments)

        def on_before_optimizer_step(self, *arguments):
            with self.reads:
                super().on_before_optimizer_step(*arguments)

    guard = Counted()
    run = trainer(max_steps=2, accumulate_grad_batches=2, callbacks=[guard])
    run.fit(module(), datamodule=dialogues())
    assert guard.reads.n == 2


class Full(Callback):
    """Takes the last of the memory, as a GPU would say it."""

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore.")


def test_full_memory_names_the_batch_and_what_to_lower(trainer, dialogues, tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    run = trainer(
        max_steps=4, callbacks=[OutOfMemory(), Full()], logger=logger, log_every_n_steps=1
    )
    data = dialogues()
    length = len(data.examples[0]["input_ids"])
    with pytest.raises(LocVLMError) as caught:
        run.fit(module(), datamodule=data)
    said = str(caught.value)
    assert f"a batch of 2 samples, {2 * length} tokens (2 rows of {length}) and 2 images" in said
    assert f"step 1 of {tmp_path}" in said
    for setting in ("data.batch_size", "processor.max_length", "checkpoint_activations", "plan"):
        assert setting in said
    assert said.endswith("CUDA out of memory. Tried to allocate 2 GiB.")
    assert "train/loss" in (tmp_path / "metrics.csv").read_text()  # of the step before


def test_other_errors_stay_what_they_are(trainer, dialogues):
    class Bug(Callback):
        def on_before_backward(self, trainer, pl_module, loss):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trainer(max_steps=1, callbacks=[OutOfMemory(), Bug()]).fit(module(), datamodule=dialogues())
