"""What all commands share: plain error messages, logging, tables."""

import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from textwrap import wrap
from typing import Any, ParamSpec, TypeVar

from locvlm.config import check_keys
from locvlm.mistakes import mistake

P = ParamSpec("P")
R = TypeVar("R")
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
CLOSED = 141  # 128 + SIGPIPE
# Hydra's own switch: exceptions leave it as they are.
FULL_ERROR = "HYDRA_FULL_ERROR"
_MORE = """\
prints all that a combination sets, to the last key, without running it; each key can be given on
the command line, such as data.batch_size=8. `-m` runs all combinations of values with commas."""
_NUMERIC = re.compile(r"[-–−+]?[\d.,]*")  # a cell with a number, a dash for none, or nothing
# What torch's DataLoader puts before the message of an error from one of its processes.
_TRACEBACK = re.compile(
    r"\ACaught \w+ in DataLoader worker .*^[\w.]+Error: ", re.DOTALL | re.MULTILINE
)


def plain_errors(command: Callable[P, R], *, together: bool = False) -> Callable[P, R]:
    """Lets a command end with a message and exit status 1 where the user can do something.

    Only `LocVLMError`s and mistakes in a config become messages; a bug keeps its traceback.

    Args:
        command: what to run.
        together: a launcher may start it in many processes that work as one; what all would say is
            said by the first of each computer.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            if not together or _is_first_here():
                print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is flushed at exit
            sys.exit(CLOSED)
        except Exception as error:
            plain = mistake(error)
            if plain is None:
                raise
            rank = _rank() if together else None
            if rank is not None or not together or _is_first_here():
                heading = "error" if rank is None else f"error in process {rank}"
                print(f"{heading}: {_TRACEBACK.sub('', str(plain))}", file=sys.stderr)
            sys.exit(1)

    return run


def hydra_command(
    name: str, schema: type | None = None, *, together: bool = False
) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Makes a function of a config the command that composes it from the command line.

    It ends as `plain_errors` says; mistakes in the command line and in YAML files become messages
    too, where Hydra alone shows its own. HYDRA_FULL_ERROR=1 shows the tracebacks.

    Args:
        name: of the config in `conf/`.
        schema: a dataclass of what may stand at its top, stored as `<name>_schema`.
        together: see `plain_errors`.
    """
    if schema is not None:
        from hydra.core.config_store import ConfigStore  # here: not all commands need Hydra

        ConfigStore.instance().store(name=f"{name}_schema", node=schema)

    def decorate(task: Callable[[Any], Any]) -> Callable[[], None]:
        @functools.wraps(task)
        def checked(cfg: Any) -> Any:
            if schema is not None:  # Hydra takes +anything=1 in silence
                check_keys(cfg, schema, "")
            return task(cfg)

        @functools.wraps(task)
        def main() -> None:
            if {"-h", "--help"} & set(sys.argv[1:]):
                print(usage(name, sys.modules[task.__module__].__doc__ or ""))
                return
            import hydra

            sys.argv[1:] = _overrides_last(sys.argv[1:])
            compose = hydra.main("pkg://locvlm.conf", name, version_base="1.3")
            if os.environ.get(FULL_ERROR) == "1":
                compose(checked)()
                return

            @functools.wraps(task)
            def run(cfg: Any) -> Any:
                with _full_error(None):  # processes that it starts have their own
                    return plain_errors(checked, together=together)(cfg)

            with _full_error("1"):
                plain_errors(compose(run), together=together)()

        return main

    return decorate


def _overrides_last(words: Sequence[str]) -> list[str]:
    """A command line with all overrides in one row: argparse refuses those behind an option."""
    options: list[str] = []
    overrides: list[str] = []
    for word in words:
        # What stands behind --config-dir, -cd and the like is a folder's or a file's name.
        is_name = bool(options) and re.match(r"-(-config-|c)[^=]*$", options[-1]) is not None
        is_override = re.match(r"~|[^-][^=]*=", word) is not None and not is_name
        (overrides if is_override else options).append(word)
    return [*options, *overrides]


def usage(name: str, what: str) -> str:
    """The help of a command: Hydra's own prints hundreds of lines, and not what it is for.

    Args:
        name: of its config in `conf/`, whose comments say what the settings are.
        what: the command does.
    """
    groups = files("locvlm.conf")
    text = (groups / f"{name}.yaml").read_text()
    # Settings of its own with the comments on them, not those below them, and neither of Hydra's.
    below = text.partition("\ndefaults:\n")[2]
    own = re.sub(r"(?:^#.*\n)*^hydra:\n(?s:.*)|^[ -].*\n|^\n", "", below, flags=re.MULTILINE)
    chosen = dict(re.findall(r"^  - (\w+): (\w+)", text, re.MULTILINE))
    if "recipe" in chosen:
        chosen["+experiment"] = ""
    lines = [what.strip(), "", "settings, as key=value:"]
    lines += [f"  {line}" for line in own.splitlines()]
    if chosen:
        lines += ["", "choices, as group=option, the first one where none is given:"]
    for group, now in chosen.items():
        folder = groups / group.lstrip("+")
        names = sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))
        names = ([now] if now in names else []) + [other for other in names if other != now]
        if len(names) > 1:
            lines += wrap(f"  {group}={' | '.join(names)}", 96, subsequent_indent="      ")
    return "\n".join([*lines, "", f"python -m locvlm.{name} ... --cfg job", _MORE])


@contextmanager
def _full_error(value: str | None) -> Iterator[None]:
    before = os.environ.pop(FULL_ERROR, None)
    try:
        if value is not None:
            os.environ[FULL_ERROR] = value
        yield
    finally:
        os.environ.pop(FULL_ERROR, None)
        if before is not None:
            os.environ[FULL_ERROR] = before


def set_up_logging() -> None:
    """Sends messages to stderr, one line each; for commands without Hydra, which has its own."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Warns at import about a kernel that nobody asked for, on CPUs with AVX512-BF16.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table to stdout: numbers to the right, floats with 3 decimals, None as a dash.

    Where it would be wider than the terminal even with a word to a line, rows become columns, or
    a paragraph each.
    """
    from rich.console import Console  # here: `--help` does not wait for it

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a log file has no width; wrapped tables are unreadable
    # Not the table's own title, which is wrapped where the table is narrower.
    console.print(_cell(title), style="bold", highlight=False, soft_wrap=True)
    cells = [[_cell(value) for value in row] for row in rows]
    heads = [_cell(column) for column in columns]
    turned = [list(line) for line in zip(heads, *cells, strict=True)]
    unbounded = console.options.update(max_width=100_000)
    for lines in ([heads, *cells], turned):
        table = _table(*lines)
        if console.measure(table, options=unbounded).minimum <= console.width:
            console.print(table)
            return
    for row in cells:
        console.print(_paragraph(heads, row), highlight=False)


def _table(heads: Sequence[str], *rows: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table()
    for index, head in enumerate(heads):
        numeric = all(_NUMERIC.fullmatch(row[index]) for row in rows)
        table.add_column(head, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _paragraph(heads: Sequence[str], row: Sequence[str]) -> str:
    """A row in words: its first cell, then each other one behind the title of its column."""
    told = [f"{head} {cell}" for head, cell in zip(heads[1:], row[1:], strict=True) if cell]
    return f"[bold]{row[0]}[/bold]\n{'; '.join(' '.join(one.split()) for one in told)}"


def printable(text: str) -> str:
    """A model's words without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _is_first_here() -> bool:
    """Whether this is the first process of its computer, as torchrun, Lightning or srun count."""
    number = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    return number == "0"


def _rank() -> int | None:
    """This process's number where several train: from then on each may have an error of its own."""
    group: Any = sys.modules.get("torch.distributed")  # it takes seconds to import
    joined = group is not None and group.is_available() and group.is_initialized()
    return group.get_rank() if joined and group.get_world_size() > 1 else None


def _cell(value: object) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else escape(printable(str(value)))
