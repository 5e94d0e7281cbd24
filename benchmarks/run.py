"""Prints the table of speeds that later work compares with: `python benchmarks/run.py`.

Times are the best of several runs: on a busy machine the others measure its other work.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from locvlm.cli import print_table

REPEATS = 5
Row = tuple[str, float, str]


def main() -> None:
    rows = [row for measure in MEASURES for row in measure()]
    print_table(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        ["what", "value", "unit"],
        rows,
    )


def start_up() -> list[Row]:
    """How long the shell waits before anything happens."""
    python = sys.executable
    return [
        ("python alone", seconds([python, "-c", ""]), "s"),
        ("import locvlm", seconds([python, "-c", "import locvlm"]), "s"),
        ("locvlm.train --help", seconds([python, "-m", "locvlm.train", "--help"]), "s"),
        ("from locvlm import LocVLM", seconds([python, "-c", "from locvlm import LocVLM"]), "s"),
    ]


def seconds(command: Sequence[str]) -> float:
    """Wall time of a process, from another folder; the best of `REPEATS`."""

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    return min(once() for _ in range(REPEATS))


MEASURES: Sequence[Callable[[], list[Row]]] = (start_up,)

if __name__ == "__main__":
    main()
