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
_LINES = 10  # in a log file, beside the first step's
_QUIET = 60  # seconds: after them a log file gets a line in any case
_NOT_SHOWN = {"train/padding"}


class Bar(ProgressBar):
    """Shows step, loss, samples per second and remaining time of one stage, and its validation.

    In a terminal it is a bar; in a log file a line for the first step, for each tenth of all steps
    and after each minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._name = ""
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total: float | None = None
        self._start = 0.0
        self._begun = 0  # steps that an interrupted run had made
        self._told = 0  # the step of the last line
        self._refreshed = 0.0  # when the bar, or the log, last changed

    def enable(self) -> None:
        """Shows it."""
        self._enabled = True

    def disable(self) -> None:
        """Hides it, as on all ranks but the first."""
        self._enabled = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes its name from the stage's folder."""
        super().setup(trainer, pl_module, stage)
        self._name = Path(trainer.default_root_dir).name
        self._refreshed = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the bar."""
        total = trainer.estimated_stepping_batches
        self._total = total if 0 < total < float("inf") else None
        self._start = self._refreshed = time.monotonic()
        self._begun = self._told = trainer.global_step
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
        step, quiet = trainer.global_step, time.monotonic() - self._refreshed
        if self._bar is not None:
            if quiet > _REFRESH:
                self._show(completed=step, metrics=self._metrics(trainer))
        elif self._enabled and self._total and step > self._told:
            is_tenth = step * _LINES // self._total > self._told * _LINES // self._total
            if is_tenth or quiet > _QUIET or self._told == self._begun:
                self._told = step
                spent = time.monotonic() - self._start
                left = spent * (self._total - step) / (step - self._begun)
                done = f"step {step} of {self._total}"
                self._say(f"{done}, {self._metrics(trainer)}, {left:.0f} s left")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Shows how far validation is; training waits for it."""
        quiet = time.monotonic() - self._refreshed
        done = f"validation, batch {batch_idx + 1} of {sum(trainer.num_val_batches)}"
        if self._bar is not None and quiet > _REFRESH:
            self._show(metrics=done)
        elif self._bar is None and self._enabled and quiet > _QUIET:
            self._say(done)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what it found: the last one of a stage has no step behind it that would show it."""
        found = trainer.callback_metrics.get("val/loss")
        is_log = self._enabled and self._bar is None and not trainer.sanity_checking
        if is_log and found is not None:
            self._say(f"validation after step {trainer.global_step}, loss {float(found):.3g}")

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

    def _show(self, **fields: Any) -> None:
        assert self._bar is not None
        self._refreshed = time.monotonic()
        self._bar.update(self._task, **fields)

    def _say(self, line: str) -> None:
        self._refreshed = time.monotonic()
        logger.info("%s: %s", self._name, line)

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
