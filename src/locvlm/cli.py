"""What all commands share: plain error messages, logging, tables."""

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

from locvlm.errors import ConfigError, LocVLMError

P = ParamSpec("P")
R = TypeVar("R")
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
# What torch's DataLoader puts before the message of an error from one of its processes.
_TRACEBACK = re.compile(
    r"\ACaught \w+ in DataLoader worker .*^[\w.]+Error: ", re.DOTALL | re.MULTILINE
)


def plain_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Lets a command end with a message and exit status 1 where the user can do something.

    Only `LocVLMError`s and mistakes in a config become messages; a bug keeps its traceback. Stands
    below `@hydra.main`, which would print tracebacks of its own.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except Exception as error:
            plain = _plain(error)
            if plain is None:
                raise
            print(f"error: {_TRACEBACK.sub('', str(plain))}", file=sys.stderr)
            sys.exit(1)

    return run


def set_up_logging(level: int = logging.INFO) -> None:
    """Sends messages to stderr, one line each; for commands without Hydra, which has its own."""
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    # Warns at import about a kernel that nobody asked for, on CPUs with AVX512-BF16.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table to stdout: numbers to the right, floats with 3 decimals, None as a dash."""
    from rich.console import Console  # here: `--help` does not wait for it
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a log file has no width; wrapped tables are unreadable
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _plain(error: BaseException) -> LocVLMError | None:
    """The message for the user behind an exception, if there is one."""
    if isinstance(error, LocVLMError):
        return error
    kind = type(error)
    # By name: importing Hydra and OmegaConf takes longer than most of what commands do first.
    if kind.__module__ == "omegaconf.errors":
        return _config_mistake(error)
    if kind.__module__ == "hydra.errors":  # `instantiate` wraps what the target raised
        return next(filter(None, map(_plain, _causes(error))), None)
    return None


def _config_mistake(error: BaseException) -> LocVLMError | None:
    key = getattr(error, "full_key", None) or None
    if type(error).__name__ == "MissingMandatoryValue":
        return ConfigError("this needs a value", where=key, fix=f"add {key}=... to the command")
    if type(error).__name__ in {"InterpolationKeyError", "InterpolationResolutionError"}:
        return ConfigError(str(error).splitlines()[0], where=key)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error
