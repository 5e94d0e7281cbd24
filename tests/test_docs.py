"""Commands that the README and the guides print are ones that the command line takes."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from locvlm import build, score
from locvlm.arguments import compose_plain, option_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
HYDRA = {"train", "evaluate", "plan", "prepare", "audit", "export"}
COMMAND = re.compile(r"^(?:[A-Z_]+=\S+ )*python -m locvlm\.(\w+)(.*)$")


def printed():
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.M | re.S):
            for line in block.replace("\\\n", " ").splitlines():
                # What has parts of the reader's own is run by tests/test_yours.py.
                if (found := COMMAND.match(line)) and "--config-dir" not in line:
                    words = shlex.split(found[2], comments=True)
                    yield pytest.param(found[1], words, id=f"{page.name}: {line.strip()[:90]}")


def given(words):
    """Arguments without what stands for the reader's own, and of a sweep its first run."""
    kept = [word for word in words if word not in ("...", "-m") and not word.endswith("=...")]
    return [re.sub(r"^([\w@./+]+=[^,\[{'\"]+),.*$", r"\1", word) for word in kept]


@pytest.mark.parametrize(("command", "words"), printed())
def test_a_printed_command_is_understood(command, words):
    arguments = given(words)
    builds = command == "prepare" and any(word.startswith("benchmark=") for word in arguments)
    if command == "score" and words == arguments:
        score.composed(arguments)
    elif builds:
        names = list(option_names("builder"))
        compose_plain(
            "build", "builder", arguments, names=names, own=build.OWN, chosen=build.CHOSEN
        )
    elif command in HYDRA and "convert" not in arguments:
        importlib.import_module(f"locvlm.{command}")  # registers the schema
        with initialize_config_module("locvlm.conf", version_base="1.3"):
            compose(command, overrides=[word for word in arguments if not word.startswith("--")])
    else:
        importlib.import_module(f"locvlm.{command}")
