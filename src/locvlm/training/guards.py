"""Callbacks that keep a training from harm: losses that are no numbers, and too little memory."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from locvlm.data.collate import n_samples
from locvlm.data.loader import Loader
from locvlm.data.mixture import Draw
from locvlm.errors import LocVLMError
from locvlm.io import append_jsonl

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    """A batch since the optimizer's last step, and its loss."""

    batch: Mapping[str, Tensor]
    draws: list[Draw]
    loss: Tensor | None = None


class FiniteLoss(Callback):
    """Skips steps whose loss or gradients are NaN or infinite, and stops where many follow.

    A skipped step changes neither weights nor the optimizer's state; all ranks skip it together.
    `train/skipped_steps` counts them. Samples of the batches at fault go into
    `skipped-<rank>.jsonl` in the stage's folder and, where training stops, the last such batch into
    `skipped-<rank>.safetensors`.

    Each loss is judged on its device, and nothing waits for it. The verdict is read once per step
    of the optimizer, between backward pass and update: whether to skip is for the program to decide
    that starts the device's work. By then nothing is left to prepare but the update, so the device
    idles for about as long as it takes to start one. In float16 the gradient scaler looks
    at gradients, whose overflow is normal there; here only losses count then.

    Args:
        max_skipped: so many skipped steps one after the other stop the training.
    """

    def __init__(self, max_skipped: int = 5):
        self.max_skipped = max_skipped
        self.n_skipped = 0
        self._in_a_row = 0
        self._seen: list[_Seen] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch until the optimizer's next step."""
        loader = trainer.train_dataloader
        draws = loader.drawn if isinstance(loader, Loader) else []
        self._seen.append(_Seen(batch, draws))

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Remembers the loss."""
        self._seen[-1].loss = loss.detach()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Skips the step where something in it is no number.

        Raises:
            LocVLMError: as were the `max_skipped` - 1 steps before.
        """
        losses = torch.stack([seen.loss for seen in self._seen if seen.loss is not None])
        finite = torch.isfinite(losses).all()
        if getattr(trainer.precision_plugin, "scaler", None) is None:
            finite = finite & _finite_gradients(optimizer)
        broken: Any = trainer.strategy.reduce((~finite).float(), reduce_op="sum")
        if broken > 0:  # the one read
            optimizer.zero_grad(set_to_none=True)  # optimizers pass over what has no gradient
            self.n_skipped += 1
            self._in_a_row += 1
            pl_module.log("train/skipped_steps", float(self.n_skipped), batch_size=1)
            self._tell(trainer)
        else:
            self._in_a_row = 0
        self._seen = []

    def _tell(self, trainer: Trainer) -> None:
        broken = [one for one in self._seen if not _is_finite(one)] or self._seen
        folder, rank = Path(trainer.default_root_dir), trainer.global_rank
        path = folder / f"skipped-{rank}.jsonl"
        for one in broken:
            loss = None if one.loss is None else str(one.loss.item())  # JSON knows no NaN
            samples = _samples(trainer, one.draws)
            append_jsonl(path, {"step": trainer.global_step, "loss": loss, "samples": samples})
        where = f"step {trainer.global_step} of {folder}"
        if self._in_a_row < self.max_skipped:
            logger.warning("skipped: the loss or a gradient is not finite in %s; %s", where, path)
            return
        tensors = {name: value.contiguous() for name, value in _on_cpu(broken[-1].batch).items()}
        save_file(tensors, path.with_suffix(".safetensors"))
        raise LocVLMError(
            f"the loss or a gradient is not finite in {self._in_a_row} steps in a row; the last "
            f"loss is {broken[-1].loss}",
            where=where,
            fix=f"look at the samples named in {path}; lower the learning rate, clip gradients "
            "(trainer.gradient_clip_val), or train in bf16 or float32; skipped steps left the "
            "weights as they were",
        )


class OutOfMemory(Callback):
    """Says what to lower where the device's memory is too small for a step."""

    def __init__(self) -> None:
        self._batch: Mapping[str, Tensor] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch, to describe it."""
        self._batch = batch

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Puts a message for people in the place of torch's.

        Raises:
            LocVLMError: `exception` says that memory is full.
        """
        if not isinstance(exception, torch.OutOfMemoryError):
            return
        for one in trainer.loggers:  # Lightning would do it after this
            one.finalize("failed")
        raise LocVLMError(
            f"the device's memory is full with {_describe(self._batch)}",
            where=f"step {trainer.global_step} of {trainer.default_root_dir}",
            fix="lower data.batch_size (trainer.accumulate_grad_batches=2 makes up for half of "
            "it), lower processor.max_length, or give checkpoint_activations=true; python -m "
            f"locvlm.plan says what they take. torch says: {str(exception).splitlines()[0]}",
        ) from exception


def _describe(batch: Mapping[str, Tensor]) -> str:
    if not batch:
        return "no batch yet"
    on_cpu = _on_cpu(batch)  # there is no room elsewhere
    said = f"a batch of {n_samples(on_cpu)} samples"
    if "input_ids" in on_cpu:
        rows, length = on_cpu["input_ids"].shape
        said += f", {rows * length:,} tokens ({rows} rows of {length:,})"
    return f"{said} and {len(on_cpu['pixel_values'])} images"


def _on_cpu(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a batch."""
    return {name: value.cpu() for name, value in batch.items() if isinstance(value, Tensor)}


def _samples(trainer: Trainer, draws: list[Draw]) -> list[str]:
    loader: Any = trainer.train_dataloader
    return [loader.examples.sample(draw)[0].where for draw in draws]


def _is_finite(seen: _Seen) -> bool:
    return seen.loss is None or bool(torch.isfinite(seen.loss))


def _finite_gradients(optimizer: Optimizer) -> Tensor:
    """Whether all gradients on this rank are numbers, as a tensor on their device."""
    gradients = [
        weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
        for group in optimizer.param_groups
        for weight in group["params"]
        if weight.grad is not None
    ]
    present = [gradient for gradient in gradients if gradient.numel()]  # shards can be empty
    return torch.isfinite(torch.nn.utils.get_total_norm(present, norm_type=float("inf")))
