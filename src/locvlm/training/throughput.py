"""A callback that tells how fast training is, what of the device it uses, and its waiting."""

import resource
import sys
import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from locvlm.data.collate import n_samples
from locvlm.models import LocVLM
from locvlm.training.callbacks import shown_each_step
from locvlm.training.flops import Cost, Work, cost, peak_flops, work


class Throughput(Callback):
    """Logs the speed of training, the use of the device, memory, waiting and padding.

    - `train/samples_per_s`, `train/tokens_per_s`: on all devices together; image tokens count,
      padding does not.
    - `train/mfu`: model FLOPs utilization, 0 to 1, of the first device:

          MFU = FLOPs of the model's forward and backward pass / (seconds * peak FLOPs per second)

      with FLOPs as in `locvlm.training.flops.cost`: frozen parts only as far as they are computed,
      nothing for padding, nothing for what is computed twice. Missing where the peak is not known,
      as on a CPU, and in stages that see images alone.
    - `train/peak_gib`: the most memory so far, in GiB: of tensors on the first GPU, or of the whole
      process on a CPU.
    - `train/data_wait`: share of the time, 0 to 1, in which training waits for the next batch. On
      a GPU some of it may be free, where the device still works on the step before.
    - `train/padding`: share of the tokens of a batch, 0 to 1.

    Validation and checkpoints do not count as training time. The device is read once in `every`
    steps, so no step waits for the figures.

    Args:
        every: steps over which they are measured.
        peak: FLOPs per second that one device could do; None looks it up in
            `locvlm.training.flops.PEAK_FLOPS`.
    """

    def __init__(self, every: int = 10, peak: float | None = None):
        self.every, self.peak = every, peak
        self._cost: Cost | None = None
        self._end: float | None = None
        self._reset()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts what the model's layers cost, now that it is clear which of them learn."""
        if isinstance(pl_module.model, LocVLM):
            self._cost = cost(pl_module.model)
        if (device := pl_module.device).type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            if self.peak is None:
                self.peak = peak_flops(torch.cuda.get_device_name(device))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts the time since the last batch ended: the wait for this one."""
        if self._end is not None:
            self._waited += time.monotonic() - self._end

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch from the end of the one before, so that waiting for data counts."""
        now = time.monotonic()
        if self._end is not None:
            self._seconds += now - self._end
            if "attention_mask" in batch:
                self._work.append(work(batch))
                self._places += batch["attention_mask"].numel()
            else:
                self._n_images += n_samples(batch)
        self._end = now
        if self._seconds and (batch_idx + 1) % self.every == 0:
            self._log(trainer, pl_module)
            self._reset()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock until the next batch has ended."""
        self._end = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stops the clock until the next batch has ended."""
        self._end = None

    def _reset(self) -> None:
        self._seconds = self._waited = 0.0
        self._work: list[Tensor] = []  # of each batch, on its device
        self._places = 0  # tokens, padding included
        self._n_images = 0  # of batches that hold nothing else

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = Work(*torch.stack(self._work).sum(0).tolist()) if self._work else Work(0, 0, 0, 0, 0)
        per_second = trainer.world_size / self._seconds
        shown = {
            "samples_per_s": (done.examples + self._n_images) * per_second,
            "data_wait": self._waited / self._seconds,
            "peak_gib": peak_memory(pl_module.device) / 2**30,
        }
        if self._work:
            shown["tokens_per_s"] = done.tokens * per_second
            padding = torch.tensor(1 - done.tokens / self._places)
            pl_module.log("train/padding", padding, batch_size=1)
            if self._cost is not None and self.peak is not None:
                shown["mfu"] = self._cost.flops(done) / (self._seconds * self.peak)
        in_bar = shown_each_step(pl_module)
        for name, value in shown.items():
            # As a tensor on the CPU: Lightning would copy a number to the device and back.
            told = torch.tensor(value)
            pl_module.log(f"train/{name}", told, prog_bar=in_bar, batch_size=1)


def peak_memory(device: torch.device) -> int:
    """The most memory so far, in bytes: of tensors on a GPU, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
