"""The quickstart runs from top to bottom as a newcomer finds it."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "experiments" / "quickstart.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # From a folder without a trained model: what the tests see does not depend on earlier runs.
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    return client.execute()


def printed(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.get("text", "") for output in outputs)


def test_it_runs_from_top_to_bottom_and_says_what_it_did(executed):
    text = printed(executed)
    assert "loss after 24 steps" in text
    assert "model.safetensors" in text
    assert "where is the " in text
    assert "run `make demo` first" in text


def test_it_prints_no_warnings(executed):
    outputs = (output for cell in executed.cells for output in cell.get("outputs", ()))
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []


def test_it_shows_pictures(executed):
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
