"""The rules of CONTRIBUTING.md that a machine can hold."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
NAMES = [str(path.relative_to(REPOSITORY)) for path in SOURCES]
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef


def test_modules_import_from_lower_floors_only():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_list_of_packages_equals_the_folders():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    root = REPOSITORY / "src"
    folders = [path.parent.relative_to(root) for path in root.rglob("__init__.py")]
    packages = {".".join(folder.parts) for folder in folders} | {"locvlm.conf"}
    assert setup["options"]["packages"].split() == sorted(packages)


def test_every_folder_of_code_is_a_package():
    assert not {path.parent for path in SOURCES if not (path.parent / "__init__.py").exists()}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_files_tell_one_story_each(path):
    n_lines = len(path.read_text().splitlines())
    assert n_lines <= 300


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_functions_fit_on_a_screen(path):
    functions = (
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, FUNCTION)
    )
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def test_tests_mirror_the_modules():
    tests = REPOSITORY / "tests"
    nested = [path for path in tests.rglob("test_*.py") if path.parent != tests]
    homes = [
        REPOSITORY
        / "src/locvlm"
        / path.relative_to(tests).with_name(path.name.removeprefix("test_"))
        for path in nested
    ]
    assert [str(path) for path, home in zip(nested, homes, strict=True) if not home.exists()] == []
