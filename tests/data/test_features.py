import dataclasses
import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from locvlm.data.features import Features, Missing, together
from locvlm.data.shards import Shards
from locvlm.errors import DataError, LocVLMError
from locvlm.io import sha256
from tests.data.conftest import picture, talked

SHAPE = (16, 32)
NAME = sha256(picture(3))


@pytest.fixture
def features(tmp_path):
    return Features(tmp_path / "kept", SHAPE, torch.float32)


def drawn(seed=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_features_come_back_as_they_were_written(tmp_path, dtype):
    features = Features(tmp_path, SHAPE, dtype)
    assert not features.has(NAME)
    features.write(NAME, drawn())
    assert features.has(NAME)
    assert torch.equal(features(talked(3)), drawn().to(dtype)[None])
    assert features(talked(3)).dtype == dtype
    [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.stat().st_size == features.n_bytes == 16 * 32 * dtype.itemsize


def test_a_sample_without_an_image_has_no_features(features):
    text_only = dataclasses.replace(talked(1), image=None, size=None)
    assert features(text_only).shape == (0, *SHAPE)


def test_features_that_are_not_there_are_named(features):
    with pytest.raises(DataError, match=r"not in the cache(?s:.*)talk.json, record 3(?s:.*)kept"):
        features(talked(3))


def test_a_file_that_lost_its_end_counts_as_missing(features):
    features.write(NAME, drawn())
    [file] = [path for path in features.folder.rglob("*") if path.is_file()]
    file.write_bytes(file.read_bytes()[:-1])
    assert not features.has(NAME)
    with pytest.raises(DataError, match="not in the cache"):
        features(talked(3))


def test_a_full_disk_is_told_and_leaves_nothing(features, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LocVLMError, match=r"No space left(?s:.*)make room"):
        features.write(NAME, drawn())
    assert not any(path.is_file() for path in features.folder.rglob("*"))


WRITER = """
import os, signal, sys, torch
from pathlib import Path
from locvlm.data.features import Features
features = Features(Path(sys.argv[1]), (16, 32), torch.float32)
features.write("a" * 64, torch.ones(16, 32))
write_bytes = Path.write_bytes
def killed(path, data):
    write_bytes(path, data[: len(data) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
Path.write_bytes = killed
features.write("b" * 64, torch.ones(16, 32))
"""


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_leaves_no_half_entry(features):
    done = subprocess.run([sys.executable, "-c", WRITER, str(features.folder)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert features.has("a" * 64)
    assert not features.has("b" * 64)
    assert not (features.folder / "bb" / ("b" * 64)).exists()
    features.write("b" * 64, drawn())  # as the next run does
    assert features.has("b" * 64)


def test_what_is_missing_is_given_with_its_pixels_and_no_more(shards, processor, features):
    text_only = dataclasses.replace(talked(9), image=None, size=None)
    folder = shards([talked(0), text_only, talked(3), talked(0)])
    features.write(NAME, drawn())
    missing = Missing([Shards(folder)], processor, features)
    found = [missing[index] for index in range(len(missing))]
    assert [one is None for one in found] == [False, True, True, False]
    name, pixels = found[0]
    assert name == sha256(picture(0))
    assert torch.equal(pixels, processor.pixel_values(talked(0)))
    names, images = together(found)
    assert names == [name]  # the same image twice is encoded once
    assert images.shape == (1, 3, 32, 32)
    assert together([None, None])[0] == []


def test_an_image_that_cannot_be_read_is_left_to_training(shards, processor, features):
    broken = dataclasses.replace(talked(1), image=b"\x89PNG of old")
    missing = Missing([Shards(shards([broken, talked(2)]))], processor, features)
    assert [missing[index] is None for index in range(2)] == [True, False]
