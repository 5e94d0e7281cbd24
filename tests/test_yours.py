"""The parts that docs/yours.md shows work as they stand there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PAGE = (Path(__file__).parents[1] / "docs" / "yours.md").read_text()
FILE = re.compile(r"^```\w+\n# (my\w+/\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^python -m (locvlm\.\w+) (.*)$", re.MULTILINE)
COLORS = ("red", "blue", "green")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the page's files, and photos, annotations and questions as it wants them."""
    folder = tmp_path_factory.mktemp("desk")
    for name, text in FILE.findall(PAGE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "photos").mkdir()
    for color in COLORS:
        Image.new("RGB", (48, 40), color).save(folder / "photos" / f"{color}.png")
    boxes = [{"image": f"{c}.png", "boxes": {"dog": [4, 8, 20, 30]}} for c in (*COLORS, "gone")]
    asked = [{"image": f"{c}.png", "question": "How many?", "answer": "1"} for c in COLORS]
    for name, records in (("boxes.jsonl", boxes), ("questions.jsonl", asked)):
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in records))
    return folder


def test_the_page_lists_the_files_that_it_shows():
    listed = re.findall(r"my\w+/\S+", PAGE.partition("```\n")[2].partition("```")[0])
    assert sorted(listed) == sorted(name for name, _ in FILE.findall(PAGE))


@pytest.mark.slow
def test_a_reader_prompts_an_objective_a_callback_and_a_benchmark_of_ones_own_work(desk):
    said = {}
    for module, words in COMMAND.findall(PAGE):
        done = subprocess.run(
            [sys.executable, "-m", module, *shlex.split(words)],
            check=False,
            capture_output=True,
            text=True,
            cwd=desk,
        )
        assert done.returncode == 0, done.stderr
        said[module.removeprefix("locvlm.")] = done.stdout
    assert re.search(r"samples +│ +3 ", said["prepare"])
    assert "image file is missing" in said["prepare"]
    audited = (desk / "audit" / "audit.html").read_text()
    assert "How many of these do you see: dog?" in audited
    assert "Point me to the dog" in audited
    assert re.search(r"^to you: 4 steps, loss \d", said["train"], re.MULTILINE)
    assert '"decimals": 2' in (desk / "runs/mine/model/processor.json").read_text()
    results = json.loads((desk / "runs/mine/evaluation/counting/results.json").read_text())
    (metric,) = results["metrics"]
    assert (metric["key"], metric["n"]) == ("counting.accuracy", 3)
