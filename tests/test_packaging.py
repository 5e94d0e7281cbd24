"""A built wheel is complete: it works without this repository, from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[1]
SHIPPED = ("src", "conf", "pyproject.toml", "setup.cfg", "README.md", "LICENSE")


def run(*command, cwd, **environment):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "repository"  # a build in place would leave build/ behind
    copy.mkdir()
    for name in SHIPPED:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy)
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder, copy, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    run("pip", "install", "--no-deps", "--target", folder, wheel, cwd=folder)
    return folder


def test_the_wheel_holds_all_code_and_configs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    code = {str(p.relative_to(REPOSITORY / "src")) for p in REPOSITORY.glob("src/locvlm/**/*.py")}
    yaml = {f"locvlm/{p.relative_to(REPOSITORY)}" for p in REPOSITORY.glob("conf/**/*.yaml")}
    data = {
        str(p.relative_to(REPOSITORY / "src"))
        for ending in ("j2", "yaml")
        for p in REPOSITORY.glob(f"src/**/*.{ending}")
    }
    wanted = code | yaml | data | {"locvlm/conf/__init__.py", "locvlm/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_training_composes_from_the_wheel_in_another_folder(installed, tmp_path):
    place = run("site", cwd=tmp_path, PYTHONPATH=str(installed))
    assert str(installed) in place
    command = ("locvlm.train", "+experiment=binned224", "--cfg", "job")
    printed = run(*command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "_target_: locvlm.coordinates.IVB" in printed
    assert list(tmp_path.iterdir()) == []


def test_a_users_own_folder_adds_to_the_configs(installed, tmp_path):
    (tmp_path / "mine" / "coordinates").mkdir(parents=True)
    own = tmp_path / "mine" / "coordinates" / "fine.yaml"
    own.write_text("_target_: locvlm.coordinates.NFP\ndecimals: 3\n")
    command = ("locvlm.train", "--config-dir", "mine", "coordinates=fine", "--cfg", "job")
    printed = run(*command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert "decimals: 3" in printed
