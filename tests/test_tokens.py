import subprocess
import sys

import pytest

from locvlm.tokens import main
from tests.llava import llama_tokenizer
from tests.qwen import qwen_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    llama_tokenizer().save_pretrained(folder)
    return folder


def test_each_scheme_is_reported_with_an_example(folder, capsys):
    main([str(folder)])
    printed = capsys.readouterr().out
    for scheme in ("NFP", "IVB", "DIGA"):
        [row] = [line for line in printed.splitlines() if line.startswith(f"│ {scheme} ")]
        assert "one by one" in row
        assert "never" in row
    assert "IVB: " in printed
    assert "5|2|" in printed


def test_bins_and_decimals_are_those_that_are_given(folder, capsys):
    main([str(folder), "--bins", "336", "--decimals", "2"])
    printed = capsys.readouterr().out
    assert "|7|, |7|9|, |2|0|, |9|5|]" in printed
    assert "|0|.|0|2|, |" in printed


def test_qwens_tokenizer_writes_digits_one_by_one(tmp_path, capsys):
    qwen_tokenizer().save_pretrained(tmp_path)
    main([str(tmp_path), "--bins", "256", "--cell", "16"])
    printed = capsys.readouterr().out
    assert printed.count("one by one") == 3
    assert "together" not in printed


def test_a_saved_model_has_its_tokenizer(checkpoint, capsys):
    main([str(checkpoint), "--bins", "32", "--cell", "8"])
    assert "together" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lmsys/nowhere"], "hf download lmsys/nowhere"),
        (["lmsys/nowhere", "--cell", "13"], "do not divide into cells of 13"),
    ],
)
def test_mistakes_get_one_message_and_no_traceback(arguments, message, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "locvlm.tokens", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
