import json
import subprocess
import sys

import pytest

RECORD = {
    "image": "a.png",
    "width": 640,
    "height": 480,
    "conversations": [{"from": "human", "value": "[0.25, 0.3, 0.5, 0.75]"}],
}


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "locvlm.prepare", "convert", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in.json").write_text(json.dumps([RECORD, {"id": "x"}]))
    return tmp_path


def test_plain_names_choose_dialects_and_settings_follow_them(folder):
    files = ["input=in.json", "output=out.jsonl"]
    done = command("from=llava", "to=ivb", "to.bins=336", *files, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "[84, 78, 168, 280] bbox" in (folder / "out.jsonl").read_text()
    cells = [line.strip("│ ").split("│") for line in done.stdout.splitlines() if "│" in line]
    assert {name.strip(): int(number) for name, number in cells} == {
        "records": 1,
        "turns": 1,
        "locations": 1,
        "left as text: no location of the image": 0,
        "set aside": 1,
        "set aside: record without conversations or messages": 1,
    }
    assert "Set aside, with reasons: out.quarantine.jsonl" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == [
        "in.json",
        "out.jsonl",
        "out.quarantine.jsonl",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["to=ivb", "input=in.json", "output=out.json"], "add from=... with one of cogvlm"),
        (["from=llava", "input=in.json", "output=out.json"], "add to=... with one of cogvlm"),
        (
            ["from=llva", "to=ivb", "input=in.json", "output=out.json"],
            "no dialect is called 'llva'",
        ),
        (["from=llava", "to=ivb", "input=in.json"], "add output=..."),
        (["from=llava", "to=llava", "to.bins=3", "input=in.json", "output=out.json"], "to.bins"),
        (["from=llava", "to=ivb", "nonsense=1", "input=in.json", "output=out.json"], "nonsense"),
    ],
)
def test_mistakes_get_one_message_and_leave_nothing(folder, arguments, message):
    done = command(*arguments, cwd=folder)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in folder.iterdir()] == ["in.json"]


def test_help_names_every_dialect_and_an_example(folder):
    done = command("--help", cwd=folder)
    assert done.returncode == 0
    assert "convert from=llava to=ivb input=FILE output=FILE images=FOLDER" in done.stdout
    assert "kosmos2, llava, molmo" in done.stdout
