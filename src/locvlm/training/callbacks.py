"""Callbacks: a bar with loss, speed and remaining time, and random states in checkpoints."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from torch import Tensor

logger = logging.getLogger(__name__)
_REFRESH = 0.25  # seconds
_LINES = 10  # in a log file
_NOT_SHOWN = {"train/padding"}


class Bar(ProgressBar):
    """Shows step, loss, samples per second and remaining time of one stage.

    In a terminal it is a bar; in a log file it is ten lines.
    """

    def __init__(self) -> None:
        super().__init__()
        self._name = ""
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total: float | None = None
        self._start = 0.0
        self._refreshed = 0.0

    def enable(self) -> None:
        """Shows it."""
        self._enabled = True

    def disable(self) -> None:
        """Hides it, as on all ranks but the first."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar."""
        self._name = Path(trainer.default_root_dir).name  # the stage's folder
        total = trainer.estimated_stepping_batches
        self._total = total if 0 < total < float("inf") else None
        self._start = time.monotonic()
        console = Console(stderr=True)
        if not self._enabled or not console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}", table_column=Column(ratio=1)),  # wraps
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task(
            self._name, total=self._total, completed=trainer.global_step, metrics=""
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows how far training is; a few times a second, for reading the loss costs time."""
        if self._bar is not None:
            if time.monotonic() - self._refreshed > _REFRESH:
                self._refreshed = time.monotonic()
                self._bar.update(
                    self._task, completed=trainer.global_step, metrics=self._metrics(trainer)
                )
        elif self._enabled and self._total and _is_line(trainer, self._total):
            left = (time.monotonic() - self._start) * (self._total / trainer.global_step - 1)
            logger.info(
                "%s: step %d of %d, %s, %.0f s left",
                self._name,
                trainer.global_step,
                self._total,
                self._metrics(trainer),
                left,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the finished bar on the screen."""
        self._stop(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Gives the terminal back."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if self._bar is not None:
            self._bar.update(
                self._task, completed=trainer.global_step, metrics=self._metrics(trainer)
            )
            self._bar.stop()
            self._bar = None

    @staticmethod
    def _metrics(trainer: Trainer) -> str:
        return ", ".join(
            f"{name.removeprefix('train/')} {value:.3g}"
            for name, value in trainer.callback_metrics.items()
            if name.startswith(("train/", "val/")) and name not in _NOT_SHOWN
        )


def shown_each_step(module: LightningModule) -> bool:
    """Whether there is a progress bar that is given figures, as `prog_bar=True` asks for.

    Lightning reads each such figure from the device at the end of every step, and the device then
    has nothing to do until the next one is prepared. `Bar` reads them itself, when it draws.
    """
    trainer = module._trainer
    bar = None if trainer is None else trainer.progress_bar_callback
    return bar is not None and not isinstance(bar, Bar)


class RandomState(Callback):
    """Keeps torch's random state in checkpoints, so that a resumed run drops out the same units.

    Lightning stores what rank 0 says; other ranks keep the states that their seeds gave them.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states of the CPU's generator and, where there is a GPU, of its own."""
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            states["cuda"] = torch.cuda.get_rng_state()
        return states

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remembers the states until training goes on: what is set up until then may draw."""
        self._pending = state_dict

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Sets the states that were loaded."""
        if self._pending is None:
            return
        if trainer.is_global_zero:
            torch.set_rng_state(self._pending["cpu"].cpu())
            if torch.cuda.is_available() and "cuda" in self._pending:
                torch.cuda.set_rng_state(self._pending["cuda"].cpu())
        self._pending = None


def _is_line(trainer: Trainer, total: float) -> bool:
    """Whether this step begins another tenth of the training."""
    step = trainer.global_step
    return step > 0 and step * _LINES // total > (step - 1) * _LINES // total
