"""Processes that work for this one, and never outlive it."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Thread

from locvlm.errors import LocVLMError


@contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Starts processes as work comes, in the way that multiprocessing is set to start them.

    They end when the block does: after their work, or at once where the block fails; and at once
    where this process is killed.

    Args:
        count: of processes.

    Raises:
        LocVLMError: one of them was killed.
    """
    watched, held = Pipe(duplex=False)
    arguments = (watched, held)
    with watched, held, ProcessPoolExecutor(count, None, _follow, arguments) as pool:
        try:
            yield pool
        except BrokenProcessPool:
            raise LocVLMError(
                "a process that works for this one was killed",
                fix="most likely memory ran out, so free some; in a script of your own, put what "
                'it does below `if __name__ == "__main__":`',
            ) from None
        except BaseException:
            held.close()
            raise


def _follow(watched: Connection, held: Connection) -> None:
    held.close()  # a copy: the process that started this one has the only other end then
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes here too
    Thread(target=_end_with, args=[watched], daemon=True).start()


def _end_with(watched: Connection) -> None:
    with suppress(EOFError, OSError):
        watched.recv()  # until the other end is closed; nothing is ever sent
    os._exit(1)
