"""Training in stages: each with its own data, trained parts and length, one after the other."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from locvlm.errors import ConfigError
from locvlm.io import read_json, write_json
from locvlm.models import LocVLM
from locvlm.models.checkpoint import load_weights
from locvlm.training.launch import check_processes
from locvlm.training.strategies import FSDP

logger = logging.getLogger(__name__)
MODEL = "model"
FINISHED = "finished.json"
LAST = Path("checkpoints", "last.ckpt")
_tell = rank_zero_only(logger.info)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a training. Its parts are made when it begins, not before.

    Args:
        name: names its folder in the run folder.
        module: makes the LightningModule from the model, and so freezes what does not learn.
        data: makes the LightningDataModule.
        trainer: makes the Trainer, which writes into the folder that it is given.
    """

    name: str
    module: Callable[[LocVLM], LightningModule]
    data: Callable[[], LightningDataModule]
    trainer: Callable[[Path], Trainer]


class _Validated(Callback):
    """Knows the step of the last validation."""

    step: int | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.step = None if trainer.sanity_checking else trainer.global_step


def run_stages(
    model: LocVLM, stages: Sequence[Stage], folder: str | Path, *, resume: bool = False
) -> dict[str, float]:
    """Runs stages in order and saves the model after each, as `folder`/model.

    Args:
        model: trained in place.
        stages: in order.
        folder: the run folder; each stage writes logs and checkpoints into its own below it.
        resume: go on where an earlier run in `folder` stopped: finished stages are skipped, the
            one that was interrupted goes on from its last checkpoint.

    Returns:
        The last stage's metrics, such as `train/loss` and `val/loss`.

    Raises:
        ConfigError: there is an earlier run in `folder`, and `resume` is false.
    """
    folder = Path(folder)
    finished = _finished(folder)
    if not resume:
        check_unused(folder)
    elif finished:
        load_weights(model, folder / MODEL)
    if all(stage.name in finished for stage in stages):
        _tell(
            "nothing is left to train; to train longer, begin a new run with this model: "
            "name=<another> checkpoint=%s",
            folder / MODEL,
        )
    metrics: dict[str, float] = {}
    for stage in stages:
        if stage.name in finished:
            _tell("stage %s is finished already", stage.name)
            continue
        trainer, metrics = _run(model, stage, folder / stage.name, resume=resume)
        finished = [*finished, stage.name]
        model.save_pretrained(folder / MODEL)  # all take part where weights are sharded
        if trainer.is_global_zero:
            write_json(folder / FINISHED, finished)
            _tell("stage %s is finished; model: %s", stage.name, folder / MODEL)
        trainer.strategy.barrier()
    return metrics


def check_unused(folder: str | Path) -> None:
    """Refuses a run folder that holds an earlier run.

    Raises:
        ConfigError: names the two ways out.
    """
    folder = Path(folder)
    if (folder / FINISHED).exists() or any(folder.glob(f"*/{LAST.parent}/*.ckpt")):
        raise ConfigError(
            "there is a run in this folder already",
            where=str(folder),
            fix="add ckpt_path=last to go on with it, or name=<another> to start a new one",
        )


def _run(
    model: LocVLM, stage: Stage, folder: Path, *, resume: bool
) -> tuple[Trainer, dict[str, float]]:
    checkpoint = folder / LAST
    interrupted = resume and checkpoint.exists()  # with fsdp it is a folder
    if interrupted:
        _keep_metrics(folder)
    _tell("stage %s %s in %s", stage.name, "goes on" if interrupted else "begins", folder)
    trainer = stage.trainer(folder)
    check_processes(trainer)
    module, data = stage.module(model), stage.data()
    if interrupted and checkpoint.is_dir() != isinstance(trainer.strategy, FSDP):
        raise ConfigError(
            "this checkpoint is sharded" if checkpoint.is_dir() else "this checkpoint is one file",
            where=str(checkpoint),
            fix="go on with the interrupted run's trainer: trainer=fsdp where it is sharded",
        )
    validated = _Validated()
    trainer.callbacks.append(validated)  # type: ignore[attr-defined]  # Lightning adds it later
    try:
        # Only plain data is read from the checkpoint: a pickle could run anything.
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=str(checkpoint) if interrupted else None,
            weights_only=True,
        )
    except SystemExit as error:  # what Lightning makes of Ctrl-C, without a word
        if isinstance(error.__context__, KeyboardInterrupt):
            _tell(
                "stage %s was interrupted after step %d; the same command with ckpt_path=last %s",
                stage.name,
                trainer.global_step,
                "goes on from its last checkpoint" if checkpoint.exists() else "begins it anew",
            )
            raise KeyboardInterrupt from error
        raise
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    is_told = validated.step == trainer.global_step
    if trainer.val_dataloaders and trainer.limit_val_batches and not is_told:
        # A stage that ends by `max_steps` ends between two validations.
        metrics |= trainer.validate(module, datamodule=data, verbose=False)[0]
    return trainer, metrics


def _finished(folder: Path) -> list[str]:
    path = folder / FINISHED
    return list(read_json(path)) if path.is_file() else []


@rank_zero_only
def _keep_metrics(folder: Path) -> None:
    """Moves metrics.csv aside: the resumed run's logger would replace it."""
    old = folder / "metrics.csv"
    if old.is_file():
        n_runs = len(list(folder.glob("metrics-*.csv")))
        old.rename(folder / f"metrics-{n_runs + 1}.csv")
