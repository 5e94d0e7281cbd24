"""Scores recorded answers, without a model: `python -m locvlm.score benchmark=pope key=value ...`.

    python -m locvlm.score benchmark=pope questions=coco_pope_random.json answers=answers.jsonl
    python -m locvlm.score benchmark=vqav2 questions=Q.json annotations=A.json answers=R.json

benchmark   one of BENCHMARKS
answers     file of answers, in the form that the benchmark's official program reads
output      folder for results.json and items.jsonl, which `locvlm.compare` reads
name        of the model that answered, for the tables of `locvlm.compare`; default: the file
judge       of free answers, for the benchmarks that take one: exact, contains, llm, ...
dialect     that recorded texts write boxes in, likewise: shikra, qwen2_5_vl, ...
others      go to the benchmark: its questions, annotations, references; values are taken as they
            stand, whatever characters a path holds; judge.key=value sets what the judge takes

Prints a table and, as the last line, the figures as one JSON object, in the units of the official
program, with the number of answers that they stand on.
"""

import gc
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from omegaconf import DictConfig, OmegaConf

from locvlm.arguments import compose_plain, option_names
from locvlm.cli import plain_errors, print_table, set_up_logging
from locvlm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from locvlm.evaluation.answers import Given
    from locvlm.evaluation.results import Score
    from locvlm.evaluation.run import Benchmark

    class Recordable(Benchmark, Protocol):
        """A benchmark that scores answers from a file."""

        @property
        def files(self) -> Sequence[str]:
            """What the truth was read from."""

        def read_answers(self, file: str | Path) -> Given:
            """The answers in the form of its official program."""

        def figures(self, score: Score) -> Mapping[str, float]:
            """What its official program prints, in its units."""


OWN = ("answers", "output", "name", "seed")
CHOSEN = ("judge", "judge.predictor", "judge.predictor.dialect", "source", "dialect")


@plain_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; None takes the arguments of the process."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(given):
        print((__doc__ or "").replace("BENCHMARKS", ", ".join(benchmark_names())))
        return
    set_up_logging()
    with _without_collector():
        print(json.dumps(score(composed(given))))


def composed(arguments: Sequence[str]) -> DictConfig:
    """The config of the command with these arguments.

    Raises:
        ConfigError: as `compose_plain`.
    """
    given = list(arguments)
    if not any(argument.startswith("answers=") for argument in given):
        # A file of referring expressions may hold the predictions as well: either key names it.
        both = [argument for argument in given if argument.startswith("expressions=")]
        given += [f"answers={argument.partition('=')[2]}" for argument in both]
    return compose_plain(
        "score", "benchmark", given, names=benchmark_names(), own=OWN, chosen=CHOSEN
    )


def score(cfg: DictConfig) -> dict[str, Any]:
    """Scores what `cfg` names and prints the table.

    Returns:
        The benchmark's figures, the number of answers that they stand on as `n`, and counts.
    """
    from hydra.utils import instantiate

    from locvlm.evaluation.answers import match
    from locvlm.evaluation.results import metric_record
    from locvlm.evaluation.run import check_folder, write_results
    from locvlm.io import sha256
    from locvlm.report.tables import tables, value_rows

    benchmark: Recordable = instantiate(cfg.benchmark)
    if cfg.output:
        check_folder(Path(cfg.output), benchmark)
    questions = benchmark.questions()
    matched = match(questions, benchmark.read_answers(cfg.answers))
    # Benchmarks whose answers hold locations read recorded ones themselves.
    found = benchmark.score(matched.answers, getattr(benchmark, "read", _no_model))
    if not found.metrics:
        raise DataError(
            f"no answer can be scored: {benchmark.name} has nothing to compare it with",
            where=str(cfg.answers),
            fix="give the right answers, such as annotations=FILE, of a split that has them",
        )
    if cfg.output:
        write_results(
            Path(cfg.output),
            benchmark,
            found,
            title=f"{cfg.name or cfg.answers} on {benchmark.name}",
            n_questions=len(questions),
            predictor={"kind": "recorded", "sha256": sha256(Path(cfg.answers))},
            data={file: sha256(Path(file)) for file in benchmark.files},
            settings=OmegaConf.to_container(cfg, resolve=True),  # type: ignore[arg-type]
        )
    for table in tables([metric_record(metric) for metric in found.metrics]):
        print_table(f"{table.title}, percent", *value_rows(table))
    figures = {key: _number(value) for key, value in benchmark.figures(found).items()}
    counts = {**matched.counts, **found.counts}
    return {**figures, "n": len(found.items), "counts": counts, "version": benchmark.version}


@contextmanager
def _without_collector() -> Iterator[None]:
    """Spares millions of records, none of them in a cycle, Python's search for cycles.

    It takes a third of the time that 200,000 questions of VQA v2 need.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def benchmark_names() -> list[str]:
    """The benchmarks that score recorded answers: those whose config says which questions."""
    texts = option_names("benchmark")
    return [name for name, text in texts.items() if "benchmarks.suite.Suite" not in text]


def _number(value: float) -> float | None:
    return value if isfinite(value) else None  # JSON knows no NaN


def _no_model(answer: Any) -> Any:
    raise ConfigError("recorded answers hold locations that no model's dialect is known for")


if __name__ == "__main__":
    main()
