"""What all tests share: no network, few threads, real data where there is some."""

import os
from pathlib import Path

# Before torch or huggingface_hub are imported, here and in the commands that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest-xdist runs one process per core

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).parents[1]

# A time limit for each example fails on a busy machine and finds nothing on an idle one.
settings.register_profile("locvlm", deadline=None)
settings.load_profile("locvlm")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real annotations and photos; tests that need it are skipped without it."""
    given = os.environ.get("LOCVLM_TEST_DATA")
    folder = Path(given) if given else REPOSITORY.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if given:
        pytest.fail(f"LOCVLM_TEST_DATA names no folder: {given}")
    pytest.skip(f"no real data: LOCVLM_TEST_DATA is not set, and there is no {folder}")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a saved model: tiny, with random weights. Tests must not write into it."""
    from tests.models.conftest import make_model, make_processor  # torch, for those who ask

    folder = tmp_path_factory.mktemp("runs") / "tiny" / "model"
    make_model(make_processor()).save_pretrained(folder)
    return folder
