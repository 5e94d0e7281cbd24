import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import locvlm

LAZY = [name for name in locvlm.__all__ if name != "__version__"]


def test_importing_the_package_imports_nothing_else():
    code = "import sys, locvlm; print([m for m in sys.modules if m.startswith('locvlm.')])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("name", LAZY)
def test_public_names_are_there_when_they_are_used(name):
    assert getattr(locvlm, name).__name__ == name


def test_editors_see_the_same_names_as_programs():
    tree = ast.parse(Path(locvlm.__file__).read_text())
    (checking,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in checking.body if isinstance(node, ast.ImportFrom)]
    homes = {name.name: node.module for node in imports for name in node.names}
    assert homes == locvlm._HOMES
    assert sorted(homes) == LAZY
    assert set(locvlm.__all__) <= set(dir(locvlm))


def test_the_version_is_that_of_the_installed_package():
    assert locvlm.__version__ == importlib.metadata.version("locvlm")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'LocVLMs'"):
        locvlm.LocVLMs  # noqa: B018
