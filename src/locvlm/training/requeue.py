"""SLURM jobs whose time is up: saved after a step, and queued again."""

import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback

from locvlm.training.stages import LAST

logger = logging.getLogger(__name__)


class Requeue(Callback):
    """Saves `last.ckpt` and queues a job of SLURM again when SLURM says that its time is nearly up.

    SLURM says it by a signal, which `#SBATCH --signal=USR1@300` asks for; `ckpt_path=last` lets the
    job go on. Lightning's own handler, which this one replaces, saves in the middle of a step, when
    a process may wait for another forever, and each time into a file that nobody removes.

    Args:
        every: steps after which processes ask each other whether one of them was told.
    """

    def __init__(self, every: int = 10):
        self.every = every
        self._told = False
        self._asked = 0  # the step after which processes last asked
        self._before: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Takes the place of Lightning's handler."""
        environment = _environment(trainer)
        if environment is not None:
            environment.auto_requeue = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to listen."""
        self._told, self._asked = False, trainer.global_step
        if (environment := _environment(trainer)) is not None:
            self._before = signal.signal(environment.requeue_signal or signal.SIGUSR1, self._hear)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and stops if any process was told.

        Raises:
            SystemExit: the job is in the queue again.
        """
        step = trainer.global_step
        if _environment(trainer) is None or step < self._asked + self.every:
            return
        self._asked = step
        if not trainer.strategy.reduce_boolean_decision(self._told, all=False):
            return
        self._told = False
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
        if trainer.strategy.broadcast(trainer.is_global_zero and _requeue(step)):
            raise SystemExit(0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listens no more."""
        self._leave(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Listens no more."""
        self._leave(trainer)

    def _hear(self, *_: Any) -> None:
        self._told = True

    def _leave(self, trainer: Trainer) -> None:
        environment = _environment(trainer)
        if environment is not None and self._before is not None:
            signal.signal(environment.requeue_signal or signal.SIGUSR1, self._before)
            self._before = None


def _environment(trainer: Trainer) -> SLURMEnvironment | None:
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is None:  # one process alone
        environment = trainer._accelerator_connector.cluster_environment
    return environment if isinstance(environment, SLURMEnvironment) else None


def _requeue(step: int) -> bool:
    """Whether SLURM has put this job into its queue again."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = "{SLURM_ARRAY_JOB_ID}_{SLURM_ARRAY_TASK_ID}".format(**os.environ)
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
        said = done.stderr.strip()
    except OSError as error:
        said = str(error)
    else:
        if done.returncode == 0:
            logger.info("saved after step %d; job %s is queued again", step, job)
            return True
    what = "saved after step %d, but job %s was not queued again (%s): training goes on"
    logger.warning(what, step, job, said)
    return False
