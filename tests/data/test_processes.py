import os
import signal
import subprocess
import sys
import time

import pytest

from locvlm.data.processes import processes
from locvlm.errors import DataError, LocVLMError

ORPHANS = """
import os, signal, time
from locvlm.data.processes import processes
with processes(2) as pool:
    for _ in range(4):
        pool.submit(time.sleep, 600)
    pool.submit(print, "begun")
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def stumble(key):
    raise DataError(f"{key} is bad", where="a.json", fix="mend it")


def interrupt_oneself():
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"


def kill_oneself():
    os.kill(os.getpid(), signal.SIGKILL)


def wait(begun, finished):
    begun.touch()
    time.sleep(20)
    finished.touch()


def test_work_is_done_in_other_processes():
    with processes(2) as pool:
        found = {pool.submit(os.getpid).result() for _ in range(9)}
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2


def test_errors_come_back_with_place_and_remedy():
    with pytest.raises(DataError) as error, processes(1) as pool:
        pool.submit(stumble, "7").result()
    assert (error.value.what, error.value.where, error.value.fix) == (
        "7 is bad",
        "a.json",
        "mend it",
    )
    assert str(error.value) == "7 is bad\n  where: a.json\n  fix:   mend it"


def test_a_process_that_is_killed_is_told_of():
    with pytest.raises(LocVLMError, match="was killed") as error, processes(2) as pool:
        pool.submit(kill_oneself).result()
    assert "memory" in error.value.fix


def test_only_the_first_process_is_interrupted():
    with processes(1) as pool:
        assert pool.submit(interrupt_oneself).result() == "went on"


def test_work_that_has_begun_is_given_up_where_the_block_fails(tmp_path):
    begun, finished = tmp_path / "begun", tmp_path / "finished"

    def interrupted(future):
        assert not future.done()
        while not begun.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), processes(2) as pool:
        interrupted(pool.submit(wait, begun, finished))
    assert not finished.exists()


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it():
    # What they print into is open until the last of them has ended.
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL
