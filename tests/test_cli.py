import io
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils.data import DataLoader, IterableDataset

from locvlm import cli
from locvlm.errors import ConfigError, DataError


def refuse(bins=0):
    raise ConfigError(f"bins must be at least 1, got {bins}", where="coordinates.bins")


def run(command, **options):
    with pytest.raises(SystemExit) as end:
        cli.plain_errors(command, **options)()
    return end.value.code


def test_an_error_of_ours_becomes_a_message(capsys):
    def command():
        raise DataError("image is cut short", where="a.tar", fix="prepare it again")

    assert run(command) == 1
    out, err = capsys.readouterr()
    assert (out, err) == (
        "",
        "error: image is cut short\n  where: a.tar\n  fix:   prepare it again\n",
    )


def test_an_error_that_hydra_wrapped_becomes_a_message(capsys):
    node = OmegaConf.create({"_target_": f"{__name__}.refuse"})
    assert run(lambda: instantiate(node)) == 1
    expected = "error: bins must be at least 1, got 0\n  where: coordinates.bins\n"
    assert capsys.readouterr().err == expected


class Broken(IterableDataset):
    def __iter__(self):
        raise DataError("image is cut short", where="a.tar", fix="prepare it again")


def test_an_error_of_a_loading_process_becomes_the_same_message(capsys):
    assert run(lambda: list(DataLoader(Broken(), num_workers=1))) == 1
    expected = "error: image is cut short\n  where: a.tar\n  fix:   prepare it again\n"
    assert capsys.readouterr().err.rstrip() == expected.rstrip()


@pytest.mark.parametrize("bug", [ValueError("a bug"), FileNotFoundError("gone")])
def test_a_bug_keeps_its_traceback(bug):
    def command():
        raise bug

    with pytest.raises(type(bug)):
        cli.plain_errors(command)()


def test_a_closed_pipe_ends_quietly():
    code = (
        "from locvlm.cli import plain_errors;"
        "plain_errors(lambda: [print('a row') for n in range(100_000)])()"
    )
    done = subprocess.run(
        f'{sys.executable} -c "{code}" | head -1; exit ${{PIPESTATUS[0]}}',
        check=False,
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("a row", "", cli.CLOSED)


COMMAND = """
import sys
from dataclasses import dataclass
from locvlm import cli
@dataclass
class Config:
    name: str = "default"
cli.hydra_command("own", Config)(lambda cfg: print(cfg.name))()
"""


@pytest.fixture
def command(tmp_path):
    """Runs a command of its own with arguments, in a process of its own."""
    (tmp_path / "own.yaml").write_text("name: default\n")

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-c", COMMAND, "--config-dir", str(tmp_path), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | environment,
        )

    return run


def test_a_hydra_command_composes_its_config(command):
    done = command("name=mine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_a_hydra_command_says_what_is_wrong_with_its_arguments_and_no_more(command):
    done = command("nam=a")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no key 'nam'\n  where: nam\n")


def test_options_may_stand_between_overrides(tmp_path, command):
    folder = f"--config-dir={tmp_path}"
    done = command("hydra.job.name=a", folder, "hydra.job.id=b", "--cfg", "job", "name=mine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "name: mine\n", "")


def test_a_name_that_holds_an_equals_sign_stays_behind_its_option(tmp_path, command):
    (tmp_path / "a=b").mkdir()
    done = command("name=mine", "--config-dir", str(tmp_path / "a=b"))
    assert done.returncode == 1
    assert "own" in done.stderr


def test_a_key_that_was_added_is_refused_too(command):
    done = command("+nonsense=1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Config takes no" in done.stderr


def test_an_added_key_is_refused_where_tracebacks_are_shown_as_well(command):
    done = command("+nonsense=1", HYDRA_FULL_ERROR="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ConfigError: Config takes no" in done.stderr


def test_who_asks_hydra_for_the_traceback_gets_it(command):
    done = command("nam=a", HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr


def test_an_interrupt_ends_quietly(capsys):
    def command():
        raise KeyboardInterrupt

    assert run(command) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
@pytest.mark.parametrize("error", [DataError("no such folder"), KeyboardInterrupt()])
def test_what_all_processes_of_a_launcher_would_say_is_said_once(
    variable, error, monkeypatch, capsys
):
    def command():
        raise error

    monkeypatch.setenv(variable, "0")
    first = run(command, together=True), capsys.readouterr().err
    monkeypatch.setenv(variable, "1")
    assert (run(command, together=True), capsys.readouterr().err) == (first[0], "")
    assert (run(command), capsys.readouterr().err) == first
    assert "no such folder" in first[1] or first[1] == "interrupted\n"


def test_a_process_that_trains_with_others_says_which_one_has_an_error(monkeypatch, capsys):
    def command():
        raise DataError("no sample can be read")

    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 9)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 16)
    assert run(command, together=True) == 1
    assert capsys.readouterr().err == "error in process 9: no sample can be read\n"


def test_a_command_that_works_is_left_alone():
    @cli.plain_errors
    def command(a, *, b):
        """Adds."""
        return a + b

    assert command(1, b=2) == 3
    assert command.__doc__ == "Adds."


def test_a_table_is_readable_and_never_wrapped(capsys):
    name = "a very long name of a method, longer than a terminal is wide " * 2
    rows = [[name, 0.51234, 3], ["LocPred [bold]", None, 12]]
    cli.print_table("Scores", ["method", "Acc@0.5", "n"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Scores"
    assert any(name.strip() in line and "0.512" in line for line in lines)
    assert any("LocPred [bold]" in line and " - " in line and " 12 " in line for line in lines)


def test_numbers_that_are_text_stand_to_the_right_too(capsys):
    rows = [["a long name", "7.5", "0.0 to 9.1"], ["b", "100.0", ""], ["c", "–", ""]]
    cli.print_table("Scores", ["what", "percent", "interval"], rows)
    printed = capsys.readouterr().out
    assert "│     7.5 │ 0.0 to 9.1 │" in printed
    assert "│ b           │   100.0 │" in printed
    assert "│       – │" in printed


class Terminal(io.StringIO):
    """Text that is written to a terminal."""

    def isatty(self):
        return True


def narrow_terminal(monkeypatch):
    """Standard output on a terminal of 60 columns, without colours; not for fixtures, which end
    before pytest takes standard output again."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    return sys.stdout


def seen(terminal):
    return re.sub(r"\x1b\[\d+m", "", terminal.getvalue()).splitlines()


def test_rows_become_columns_where_a_terminal_is_too_narrow_for_words(monkeypatch):
    terminal = narrow_terminal(monkeypatch)
    columns = ["", *(f"{name} accuracy" for name in ("random", "popular", "adversarial", "all"))]
    rows = [["runs/one/model", "88.2", "71.5", "97.8", "1"], ["runs/two/model", *"9876"]]
    cli.print_table("POPE", columns, rows)
    lines = seen(terminal)
    assert lines[2] == "┃                      ┃ runs/one/model ┃ runs/two/model ┃"
    assert "│ popular accuracy     │           71.5 │              8 │" in lines


def test_rows_become_paragraphs_where_columns_are_too_many_too(monkeypatch):
    terminal = narrow_terminal(monkeypatch)
    columns = ["", *(f"number-{n}" for n in range(9))]
    rows = [[f"runs/{n}/model", *(f"{value}.5\n(to [9])" for value in range(9))] for n in range(9)]
    rows[1][3] = ""
    cli.print_table("POPE", columns, rows)
    text = " ".join(" ".join(seen(terminal)).split())
    assert "runs/0/model number-0 0.5 (to [9]); number-1 1.5 (to [9]); number-2" in text
    assert "runs/1/model number-0 0.5 (to [9]); number-1 1.5 (to [9]); number-3" in text


def test_a_table_without_rows_is_a_heading(capsys):
    cli.print_table("/a/long/path on pope, percent", ["n"], [[1]])
    assert "/a/long/path on pope, percent\n" in capsys.readouterr().out  # unwrapped

    cli.print_table("Scores", ["method"], [])
    assert "method" in capsys.readouterr().out


def test_help_says_what_a_command_is_for_its_settings_and_its_choices():
    said = cli.usage("export", "Writes a model.").splitlines()
    assert said[:3] == ["Writes a model.", "", "settings, as key=value:"]
    assert "  output: ???     # folder to write; an older export in it is replaced" in said
    assert not any("hydra" in line or "choices" in line for line in said)

    said = cli.usage("evaluate", "Measures a model.").splitlines()
    assert "  prompts=paper | scenes" in said
    assert any(line.startswith("  predictor=locvlm | blip2 | ") for line in said)
    assert any(line.startswith("  benchmark=scenes | activitynet_qa | ") for line in said)
    assert not any("hydra" in line.lower() for line in said)


def test_logging_goes_to_stderr_one_line_each():
    code = (
        "import logging; from locvlm.cli import set_up_logging; set_up_logging();"
        "logging.getLogger('locvlm.x').info('12 bad samples')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "INFO locvlm.x: 12 bad samples\n")
    assert logging.getLogger("locvlm").handlers == []
