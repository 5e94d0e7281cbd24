"""Further processes that work beside this one, and end with it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from typing import Any

from locvlm.errors import LocVLMError


@contextmanager
def beside(
    task: Callable[..., None], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[Callable[[], bool]]:
    """Runs `task` in a new process for each of `arguments`, until the block ends.

    Yields a function that says whether any is still at work, and raises `LocVLMError` where one
    has failed. Processes that are at work when the block ends, because of an error, are ended.

    Args:
        task: importable, as new processes start from nothing.
        arguments: of each call.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    processes = [context.Process(target=task, args=one) for one in arguments]
    try:
        for process in processes:
            process.start()
        yield lambda: _running(processes)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            if process.pid is not None:
                process.join()


def _running(processes: Sequence[SpawnProcess]) -> bool:
    for number, process in enumerate(processes, 2):
        if process.exitcode:
            raise LocVLMError(
                f"process {number} of {len(processes) + 1} ended with status {process.exitcode}",
                fix="its own message says why; the same command goes on where they stopped",
            )
    return any(process.is_alive() for process in processes)
