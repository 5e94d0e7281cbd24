import multiprocessing
import time
from pathlib import Path

import pytest

from locvlm.errors import LocVLMError
from locvlm.predictors.processes import beside


def write(path):
    Path(path).touch()


def fail(status):
    raise SystemExit(status)


def sleep():
    time.sleep(600)


def wait_while(running):
    while running():
        time.sleep(0.02)


def test_each_process_does_its_part(tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    with beside(write, [(path,) for path in paths]) as running:
        wait_while(running)
    assert all(path.exists() for path in paths)


def test_without_others_nothing_runs():
    with beside(write, []) as running:
        assert not running()


def test_a_failure_is_told():
    with (
        pytest.raises(LocVLMError, match="process 2 of 2 ended with status 3"),
        beside(fail, [(3,)]) as running,
    ):
        wait_while(running)


def test_an_error_here_ends_the_others():
    with pytest.raises(ZeroDivisionError):
        fail_beside()
    assert multiprocessing.active_children() == []


def fail_beside():
    with beside(sleep, [()]) as running:
        assert running()
        raise ZeroDivisionError
