import subprocess
import sys

import pytest
import torch
from transformers import LlavaForConditionalGeneration

from locvlm.export import main


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "locvlm.export", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_saved_model_is_exported(checkpoint, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["export", f"checkpoint={checkpoint}", f"output={out}"])
    main()
    assert capsys.readouterr().out == f"exported: {out}\n"
    _, report = LlavaForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(report.values())


def test_weights_are_written_in_the_type_that_is_named(checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "out"
    arguments = [f"checkpoint={checkpoint}", f"output={out}", "dtype=bfloat16"]
    monkeypatch.setattr(sys, "argv", ["export", *arguments])
    main()
    found = LlavaForConditionalGeneration.from_pretrained(out, dtype="auto")
    assert found.dtype == torch.bfloat16
    assert found.config.dtype == torch.bfloat16


@pytest.mark.slow
def test_the_command_leaves_nothing_where_it_is_called(checkpoint, tmp_path):
    (tmp_path / "here").mkdir()
    done = command(f"checkpoint={checkpoint}", f"output={tmp_path / 'out'}", cwd=tmp_path / "here")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["output=x"], "add checkpoint=..."),
        (["checkpoint=nowhere"], "add output=..."),
        (["checkpoint=nowhere", "output=x"], "no such folder"),
        (["checkpoint=nowhere", "outptu=x"], "did you mean 'output'?"),
    ],
)
def test_mistakes_get_one_message_and_no_traceback(arguments, message, tmp_path):
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
