"""The end of `python -m locvlm.train -m ...`: one table of all runs in the sweep's folder.

A sweep that was interrupted goes on by the same command with ckpt_path=last; its table then holds
the runs of before as well.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

from locvlm.cli import print_table
from locvlm.io import read_json, write_bytes, write_json, write_text

OVERRIDES = "overrides.json"
LOSSES = ("train/loss", "val/loss")


class SweepTable(Callback):
    """Writes results.csv, results.md and results.png where a sweep ends, and prints the table.

    It reads files only, so it does not matter in which processes the runs were made.
    """

    def on_job_start(
        self, config: DictConfig, *, task_function: TaskFunction, **kwargs: Any
    ) -> None:
        """Notes in the run's folder what the sweep set for it."""
        if config.hydra.mode == RunMode.MULTIRUN:
            folder = Path(config.hydra.runtime.output_dir)
            parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            own = {item.get_key_element(): item.get_value_element_as_str() for item in parsed}
            about = {"number": config.hydra.job.num, "overrides": own}
            write_json(folder / OVERRIDES, about)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Collects all runs of the sweep."""
        # Imported here: matplotlib takes a second, and every command builds its callbacks.
        from locvlm.report.sweep import csv_text, markdown, plot, rows

        folder = Path(config.hydra.sweep.dir)
        runs = collect(folder)
        if not runs:
            return
        write_text(folder / "results.csv", csv_text(runs))
        write_text(folder / "results.md", markdown(f"Sweep {folder.name}", runs))
        write_bytes(folder / "results.png", plot(runs))
        print_table(f"Sweep {folder.name}", *rows(runs))
        print(f"table: {folder / 'results.md'}, results.csv and results.png beside it")


def collect(folder: Path) -> list[Any]:
    """What is known of each run below a sweep's folder, in the order of the command line.

    Runs without a saved model, which were interrupted, are left out.
    """
    from locvlm.report.sweep import Run

    jobs = [(read_json(path), path.parent) for path in sorted(folder.glob(f"*/{OVERRIDES}"))]
    return [
        Run(
            folder=run.name,
            overrides=about["overrides"],
            losses=_losses(run),
            metrics=[metric for results in _results(run) for metric in results["metrics"]],
        )
        for about, run in sorted(jobs, key=lambda job: job[0]["number"])
        if (run / "model").is_dir()
    ]


def _results(folder: Path) -> Iterator[dict[str, Any]]:
    """The results files of the evaluations beside a run's model."""
    yield from map(read_json, sorted(folder.glob("evaluation/*/results.json")))


def _losses(folder: Path) -> dict[str, float]:
    """The last logged losses of the last stage, those that are finished in order."""
    found: dict[str, float] = {}
    path = folder / read_json(folder / "finished.json")[-1] / "metrics.csv"
    if path.is_file():  # a run may have another logger
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                found |= {name: float(row[name]) for name in LOSSES if row.get(name)}
    return {name: found[name] for name in LOSSES if name in found}
