"""Shows what a model would learn from a data set: `python -m locvlm.audit data=scenes n=3`.

Prints samples token by token, reads all others, and says what is wrong with them; writes all
figures and a page of drawn samples. Exit status 1 where the data cannot be trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from locvlm.cli import hydra_command, print_table, set_up_logging
from locvlm.errors import ConfigError, DataError
from locvlm.experiment import ExperimentConfig

if TYPE_CHECKING:
    from locvlm.data import Draw, Examples, LocVLMDataModule
    from locvlm.data.split_audit import Audit
    from locvlm.processor import Processor


@dataclass
class AuditConfig(ExperimentConfig):
    """What `conf/audit.yaml` may hold; Hydra refuses any other top-level key."""

    checkpoint: str | None = None
    n: int = 1
    checked: int = 200
    shown: int = 24
    split: str = "train"
    benchmarks: list[str] = field(default_factory=list)
    output: str | None = None


def audit(cfg: DictConfig) -> "Audit":
    """Prints and writes what is in the data of `cfg`.

    Raises:
        ConfigError: there is no such split, or nothing in it.
        DataError: the data cannot be trained on, or a benchmark names no images.
    """
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.data import Draw
    from locvlm.data.leaks import read_benchmark
    from locvlm.data.split_audit import audit_split
    from locvlm.data.verdict import check_trainable
    from locvlm.scenes.config import check_scenes

    check_scenes(cfg.scenes)
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    check_targets(settings)
    if cfg.split not in ("train", "val"):
        raise ConfigError(
            f"no split called {cfg.split!r}", where="split", fix="choose train or val"
        )
    settings["data"].pop("processor")
    processor = _processor(settings["processor"], cfg.checkpoint)
    make = instantiate(settings["data"], _convert_="all", _partial_=True)
    module: LocVLMDataModule = make(processor=processor)
    benchmarks = [read_benchmark(path) for path in cfg.benchmarks]
    examples = module.examples(cfg.split)
    rows = examples.mixture.epoch(0)[: max(cfg.checked, cfg.n, cfg.shown)].tolist()
    draws = [Draw(*row) for row in rows]
    for draw in draws[: cfg.n]:
        _show(examples, draw)
    names = [
        f"data.{cfg.split}.{name}"
        for name, source in zip(settings["data"][cfg.split], module.sources[cfg.split], strict=True)
        if source.is_drawn
    ]
    with _progress() as advance:
        checked = draws[: max(cfg.checked, cfg.n)]
        found = audit_split(module, cfg.split, names, checked, benchmarks, advance)
    _print(found)
    if cfg.output is not None:
        _write(Path(cfg.output), found, examples, draws[: cfg.shown])
    check_trainable(found)
    return found


def _processor(node: dict[str, Any], checkpoint: str | None) -> "Processor":
    """As training makes it: with the tokenizer of the model that it begins with."""
    from hydra.utils import instantiate

    if checkpoint is None:
        return instantiate(node, _convert_="all")  # type: ignore[no-any-return]
    from locvlm.models.checkpoint import load_processor

    rest = {key: value for key, value in node.items() if key != "tokenizer"}
    make = instantiate(rest, _convert_="all", _partial_=True)
    return make(tokenizer=load_processor(checkpoint).tokenizer)  # type: ignore[no-any-return]


def _show(examples: "Examples", draw: "Draw") -> None:
    from locvlm.data.audit import token_rows

    try:
        sample, messages = examples.sample(draw)
        rows = token_rows(examples.processor.encode(sample, messages), examples.processor)
    except DataError as error:
        print(error)
        return
    print_table(
        f"{sample.key} ({sample.source})",
        ["position", "token", "id", "label", "weight", "stands for"],
        [
            (row.position, repr(row.token), row.id, row.label, f"{row.weight:g}", row.meaning)
            for row in rows
        ],
    )


@contextmanager
def _progress() -> Iterator[Callable[[], None]]:
    """A bar on stderr; what it gives is called once for each sample."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("Reading samples", total=None)
        yield lambda: progress.advance(task)


def _print(found: "Audit") -> None:
    """Warnings in words, then the tables."""
    from locvlm.data.verdict import warnings
    from locvlm.report.audit import tables

    for warning in warnings(found):
        print(f"warning: {warning.what}\n  fix:   {warning.fix}")
    for table in tables(found):
        print_table(table.title, table.columns, table.rows)
        print(f"{table.note}\n")


def _write(folder: Path, found: "Audit", examples: "Examples", draws: "Sequence[Draw]") -> None:
    """audit.json and audit.html."""
    from locvlm.data.verdict import warnings
    from locvlm.io import write_json, write_text
    from locvlm.report.audit_figures import figures
    from locvlm.report.audit_page import render_page, samples_to_show

    said = warnings(found)
    write_json(folder / "audit.json", figures(found, said))
    page = render_page(found, said, samples_to_show(examples, found, draws))
    write_text(folder / "audit.html", page)
    print(f"all figures: {folder / 'audit.json'}\nsamples:     {folder / 'audit.html'}")


@hydra_command("audit", AuditConfig)
def main(cfg: DictConfig) -> None:
    """Prints the audit of what `cfg` names."""
    set_up_logging()
    audit(cfg)


if __name__ == "__main__":
    main()
