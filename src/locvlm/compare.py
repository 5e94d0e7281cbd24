"""Compares finished runs: `python -m locvlm.compare runs/*/evaluation --against runs/base`.

Plain arguments, because paths do not survive Hydra's grammar.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from locvlm.cli import plain_errors, print_table, printable, set_up_logging
from locvlm.errors import ConfigError, DataError
from locvlm.io import write_text

if TYPE_CHECKING:
    from locvlm.evaluation.paired import Item
    from locvlm.report.compare_page import Gallery
    from locvlm.report.compared import Comparison
    from locvlm.report.runs import Measured

TITLE = "Comparison of runs"
EPILOG = """\
examples:
  python -m locvlm.compare runs/*/evaluation
  python -m locvlm.compare runs/a runs/b --against runs/a --html compare.html
  python -m locvlm.compare runs --benchmark pope --markdown pope.md --csv pope.csv

A run is what locvlm.evaluate or locvlm.score wrote: a folder with results.json and items.jsonl.
Runs that asked the same questions share a table; what differs in their protocols is said below it.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m locvlm.compare",
        description="Compare finished runs with each other and with published figures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "runs", nargs="+", type=Path, help="run folders, results.json files, or folders above them"
    )
    made.add_argument(
        "--benchmark", action="append", default=[], help="only this one; may be given repeatedly"
    )
    made.add_argument(
        "--against", type=Path, help="run, or folder of runs, to test the others against"
    )
    made.add_argument("--html", type=Path, help="page to write, with questions where runs disagree")
    made.add_argument(
        "--images",
        action="append",
        default=[],
        type=Path,
        help="folder of a benchmark's images, for the page; may be given repeatedly",
    )
    made.add_argument("--markdown", type=Path, help="file to write the tables to")
    made.add_argument("--csv", type=Path, help="file to write all numbers to")
    return made


def compare(args: argparse.Namespace) -> list["Comparison"]:
    """Prints the tables, writes the files that were asked for.

    Returns:
        The tables, those with published rows first.

    Raises:
        ConfigError: no run is of the benchmark, or several are the reference of one table.
        DataError: a run cannot be read.
    """
    from locvlm.report.compared import groups
    from locvlm.report.compared_text import csv_of, markdown
    from locvlm.report.runs import read_runs

    against = [args.against] if args.against else []
    runs = _of(read_runs([*args.runs, *against]), args.benchmark)
    folders = {run.folder.resolve() for run in read_runs(against)} if against else set()
    images = args.images if args.html else None
    own = [_compared(group, folders, runs, images) for group in groups(runs)]
    tables = [*_papers(runs), *(table for table, _ in own)]
    for table in tables:
        _print(table)
    if args.markdown:
        write_text(args.markdown, markdown(tables, TITLE))
    if args.csv:
        write_text(args.csv, csv_of(tables))
    if args.html:
        from locvlm.report.compare_page import render_page

        galleries = [gallery for _, shown in own for gallery in shown]
        write_text(args.html, render_page(TITLE, tables, galleries))
    for file in filter(None, (args.markdown, args.csv, args.html)):
        print(f"written: {file}")
    return tables


def _of(runs: Sequence["Measured"], benchmarks: Sequence[str]) -> list["Measured"]:
    known = sorted({run.benchmark for run in runs})
    if unknown := [name for name in benchmarks if name not in known]:
        raise ConfigError(
            f"no run is of {', '.join(unknown)}",
            where="--benchmark",
            fix=f"these runs are of {', '.join(known)}",
        )
    return [run for run in runs if not benchmarks or run.benchmark in benchmarks]


def _reference(group: Sequence["Measured"], folders: set[Path]) -> "Measured | None":
    """The run of a table that the others are tested against."""
    found = [run for run in group if run.folder.resolve() in folders]
    if len(found) > 1:
        raise ConfigError(
            f"{len(found)} runs of {group[0].benchmark} about the same questions are there to "
            "test against",
            where="--against",
            fix=f"name one of {', '.join(str(run.folder) for run in found)}",
        )
    return found[0] if found else None


def _compared(
    group: Sequence["Measured"],
    folders: set[Path],
    runs: Sequence["Measured"],
    images: Sequence[Path] | None,
) -> tuple["Comparison", list["Gallery"]]:
    """The table of runs about the same questions, each beside the reference or the first one.

    Args:
        group: the runs.
        folders: of references.
        runs: all, also those about other questions.
        images: folders of images for galleries; None for no galleries.
    """
    from locvlm.evaluation.paired import compare_parts
    from locvlm.report.compared import benchmark_table

    reference = _reference(group, folders)
    paired, galleries, untested = {}, [], []
    if folders and reference is None:
        untested.append("Not tested: --against has no run on these questions")
    base = reference or group[0]
    others = [run for run in group if run is not base and (reference or images is not None)]
    of_base = base.items() if others else []
    for run in others:
        items = run.items()  # those of one run at a time: a benchmark may have 200,000
        if images is not None:
            galleries.append(_gallery(run, items, base, of_base, images))
        try:
            if reference:
                paired[run.name] = compare_parts(items, of_base)
        except DataError as error:
            untested.append(f"{run.name} was not tested: {error.what}")
    strangers = (run for run in runs if run.benchmark == base.benchmark and run not in group)
    table = benchmark_table(group, reference=reference, paired=paired, other=next(strangers, None))
    return replace(table, notes=[*table.notes, *untested]), galleries


def _gallery(
    run: "Measured",
    items: Sequence["Item"],
    base: "Measured",
    of_base: Sequence["Item"],
    images: Sequence[Path],
) -> "Gallery":
    """A run beside another one, question by question."""
    from locvlm.evaluation.paired import joined, outcome
    from locvlm.report.compare_page import Pair, gallery

    questions = [(outcome(a, b), a, b) for a, b in joined(items, of_base)]
    return gallery(Pair(run.benchmark, run.name, base.name, questions), images)


def _papers(runs: Sequence["Measured"]) -> list["Comparison"]:
    """The published tables in which one of the runs has a number."""
    from omegaconf import OmegaConf

    from locvlm.report.published import paper_table, published_table

    text = (files("locvlm.evaluation") / "published.yaml").read_text()
    nodes: Any = OmegaConf.to_container(OmegaConf.create(text))
    found = [paper_table(published_table(node), runs) for node in nodes]
    return [table for table in found if table is not None]


def _print(table: "Comparison") -> None:
    from locvlm.report.compared_text import notes, paired_rows, rows

    print_table(table.title, *rows(table))
    (_, *titles), body = paired_rows(table)
    for run in table.paired:
        own = [cells for name, *cells in body if name == run]
        print_table(f"{run} against {table.reference}", titles, own)
    for note in notes(table):
        print(printable(note))
    print()


@plain_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments and compares."""
    set_up_logging()
    compare(parser().parse_args(argv))


if __name__ == "__main__":
    main()
