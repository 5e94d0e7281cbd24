"""Measures a model: `python -m locvlm.evaluate checkpoint=runs/x/model benchmark=scenes`."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import hydra_command, plain_errors
from locvlm.errors import ConfigError

if TYPE_CHECKING:
    from locvlm.evaluation.run import Run


@dataclass
class EvaluateConfig:
    """What `conf/evaluate.yaml` may hold; Hydra refuses any other top-level key."""

    checkpoint: str | None = None
    benchmark: Any = MISSING
    predictor: Any = MISSING
    prompts: Any = MISSING
    scenes: Any = MISSING
    data_root: str = "data"
    output: str | None = None
    fresh: bool = False
    processes: int = 1
    share: str | None = None
    train_shards: Any = None
    seed: int = 0


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Asks the predictor what the benchmark wants to know, and writes all files of the report.

    Returns:
        The contents of results.json; nothing where `share` says to answer a part only.
    """
    # Imported here: torch takes seconds, and `--help` must not wait for it.
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.evaluation.run import ANSWERS, check_folder, run_benchmark
    from locvlm.predictors.shares import ask_share, ask_together, forget, to_share
    from locvlm.scenes.config import check_scenes

    _check_processes(cfg)
    check_scenes(cfg.scenes)
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_targets(settings)
    assert isinstance(settings, dict)
    benchmark = instantiate(cfg.benchmark)
    _refuse_videos(benchmark)
    share = to_share(cfg.share or f"0/{cfg.processes}")
    if share.count > 1:
        _take_gpu(share.index)
    predictor = instantiate(cfg.predictor)
    folder = Path(cfg.output or _home(cfg.checkpoint, predictor.name) / benchmark.name)
    if not cfg.fresh:
        check_folder(folder, benchmark)
    if cfg.share:
        ask_share(benchmark.questions(), predictor, folder / ANSWERS, share)
        return {}
    if cfg.fresh:
        forget(folder / ANSWERS)
    with _progress() as on_progress, _others(cfg, folder) as running:
        run = run_benchmark(
            benchmark,
            predictor,
            folder,
            subject=predictor.name,
            settings={str(key): value for key, value in settings.items()},
            ask=partial(ask_together, count=cfg.processes, running=running),
            trained_on=_trained_on(cfg),
            on_progress=on_progress,
        )
    _report(run, folder)
    return run.results


def _home(checkpoint: str | None, name: str) -> Path:
    """The folder of a model's evaluations."""
    if checkpoint is not None:
        return Path(checkpoint).parent / "evaluation"
    last = os.path.basename(os.path.abspath(name))  # of a hub id or a path
    return Path("runs") / (re.sub(r"[^\w.+-]+", "_", last) or "model") / "evaluation"


def _trained_on(cfg: DictConfig) -> list[str]:
    """The folders of training data that are given, or that the checkpoint's run names."""
    if isinstance(cfg.train_shards, str):
        return [cfg.train_shards]
    if cfg.train_shards is not None:
        return [str(folder) for folder in cfg.train_shards]
    run = None if cfg.checkpoint is None else Path(cfg.checkpoint).parent / "config.yaml"
    if run is None or not run.is_file():
        return []
    from locvlm.evaluation.leakage import training_shards

    return training_shards(OmegaConf.to_container(OmegaConf.load(run)))


def _check_processes(cfg: DictConfig) -> None:
    if cfg.processes < 1:
        raise ConfigError(f"processes must be at least 1, got {cfg.processes}", where="processes")
    if cfg.share is not None and (cfg.processes > 1 or cfg.fresh):
        raise ConfigError(
            "a process that answers a share starts no others, and forgets nothing of theirs",
            where="share",
            fix="leave out processes=; delete the folder of the answers to ask anew",
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            "started by torchrun, every process would do the same",
            fix="python -m locvlm.evaluate ... processes=8",
        )


def _take_gpu(number: int) -> None:
    """Makes "cuda" mean another GPU in each process."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())


def _others(cfg: DictConfig, folder: Path) -> AbstractContextManager[Callable[[], bool]]:
    """The processes that answer all shares but the first."""
    from locvlm.predictors.processes import beside

    shares = [f"{number}/{cfg.processes}" for number in range(1, cfg.processes)]
    theirs = {"processes": 1, "fresh": False, "output": str(folder)}
    return beside(_answer, [(OmegaConf.merge(cfg, theirs, {"share": one}),) for one in shares])


def _answer(cfg: DictConfig) -> None:
    plain_errors(evaluate)(cfg)


def _refuse_videos(benchmark: Any) -> None:
    """Before a model is loaded for nothing: no predictor is shown frames yet."""
    if getattr(benchmark, "about", "image") == "video":
        raise ConfigError(
            f"{benchmark.name} asks about videos, which cannot be shown to a model yet",
            where="benchmark",
            fix="answer with another program and score its file: "
            f"python -m locvlm.score benchmark={benchmark.name} answers=FILE ...",
        )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("questions", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("questions", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(run: "Run", folder: Path) -> None:
    """Writes report.html, table.md and metrics.csv, prints the tables and where the files are."""
    from locvlm.cli import print_table, printable
    from locvlm.io import write_text
    from locvlm.report.html import render_page
    from locvlm.report.tables import headline_rows, markdown, metrics_csv, tables, value_rows

    write_text(folder / "report.html", render_page(run.results, run.items, run.image_of))
    write_text(folder / "table.md", markdown(run.results))
    write_text(folder / "metrics.csv", metrics_csv(run.results))
    for table in tables(run.results["metrics"]):
        print_table(table.title, *value_rows(table))
    print_table(f"{run.results['title']}, percent", *headline_rows(run.results["metrics"]))
    for note in run.results["notes"]:
        print(f"note: {printable(note)}")
    print(f"report: {folder / 'report.html'}")


@hydra_command("evaluate", EvaluateConfig)
def main(cfg: DictConfig) -> None:
    """Runs the command; the results are in its files."""
    evaluate(cfg)
    if cfg.share:
        print(f"share {cfg.share} is answered; once all are, the command without share= reports")


if __name__ == "__main__":
    main()
