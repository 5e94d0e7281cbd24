"""Measures a model: `python -m locvlm.evaluate checkpoint=runs/x/model benchmark=scenes`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import hydra_command
from locvlm.errors import ConfigError

if TYPE_CHECKING:
    from locvlm.evaluation.run import Run


@dataclass
class EvaluateConfig:
    """What `conf/evaluate.yaml` may hold; Hydra refuses any other top-level key."""

    checkpoint: str = MISSING
    benchmark: Any = MISSING
    predictor: Any = MISSING
    prompts: Any = MISSING
    scenes: Any = MISSING
    output: str | None = None
    fresh: bool = False
    seed: int = 0


def evaluate(cfg: DictConfig) -> dict[str, Any]:
    """Asks the predictor what the benchmark wants to know, and writes all files of the report.

    Returns:
        The contents of results.json.
    """
    # Imported here: torch takes seconds, and `--help` must not wait for it.
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.evaluation.run import ANSWERS, run_benchmark
    from locvlm.scenes.config import check_scenes

    check_scenes(cfg.scenes)
    settings = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    check_targets(settings)
    assert isinstance(settings, dict)
    benchmark = instantiate(cfg.benchmark)
    _refuse_videos(benchmark)
    predictor = instantiate(cfg.predictor)
    folder = Path(cfg.output or Path(cfg.checkpoint).parent / "evaluation" / benchmark.name)
    if cfg.fresh:
        (folder / ANSWERS).unlink(missing_ok=True)
    with _progress() as on_progress:
        run = run_benchmark(
            benchmark,
            predictor,
            folder,
            subject=str(cfg.checkpoint),
            settings={str(key): value for key, value in settings.items()},
            on_progress=on_progress,
        )
    _report(run, folder)
    return run.results


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
    """Writes report.html and table.md, prints the tables and where the files are."""
    from locvlm.cli import print_table
    from locvlm.io import write_text
    from locvlm.report.html import render_page
    from locvlm.report.tables import headline_rows, markdown, tables, value_rows

    write_text(folder / "report.html", render_page(run.results, run.items, run.image_of))
    write_text(folder / "table.md", markdown(run.results))
    for table in tables(run.results["metrics"]):
        print_table(table.title, *value_rows(table))
    print_table(f"{run.results['title']}, percent", *headline_rows(run.results["metrics"]))
    print(f"report: {folder / 'report.html'}")


@hydra_command("evaluate", EvaluateConfig)
def main(cfg: DictConfig) -> None:
    """Runs the command; the results are in its files."""
    evaluate(cfg)


if __name__ == "__main__":
    main()
