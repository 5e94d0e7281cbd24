import csv
import json
import subprocess
import sys

import pytest

from locvlm.compare import compare, main, parser
from locvlm.errors import ConfigError
from tests.hostile import harmless
from tests.report.conftest import write_run


def compared(*arguments):
    return compare(parser().parse_args(list(map(str, arguments))))


@pytest.fixture
def runs(tmp_path):
    """Two runs that clearly differ, of forty questions."""
    write_run(tmp_path / "runs" / "base", "base", scores=[1] * 12 + [0] * 28)
    write_run(tmp_path / "runs" / "ours", "ours", scores=[1] * 30 + [0] * 10)
    return tmp_path / "runs"


def test_prints_one_table_with_intervals_for_a_benchmark(runs, capsys):
    [table] = compared(runs)
    assert [line.name for line in table.lines] == ["base", "ours"]
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "(65.0 to 85.0)" in printed


def test_a_significant_difference_from_the_reference_is_marked_and_told(runs, capsys):
    [table] = compared(runs / "ours", "--against", runs / "base")
    verdicts = {line.name: line.cells[0].verdict for line in table.lines}
    assert verdicts == {"ours": "▲", "base": ""}
    printed = capsys.readouterr().out
    assert "75.0 ▲" in printed
    assert "+45.0" in printed
    assert "against base" in printed


def test_a_run_without_its_questions_is_not_tested_and_named(runs):
    (runs / "ours" / "items.jsonl").unlink()
    [table] = compared(runs, "--against", runs / "base")
    assert "ours was not tested: no question is in both runs, of 0 and 40" in table.notes


def test_runs_on_other_questions_never_share_a_table(runs):
    write_run(runs / "zother", "other", data={"other.json": "def"})
    first, second = compared(runs)
    assert [line.name for line in second.lines] == ["other"]
    assert second.title == "quiz, other"
    assert 'data: "def", not "abc"' in second.notes[0]
    assert 'data: "abc", not "def"' in first.notes[0]


def test_published_rows_stand_beside_measured_ones(tmp_path):
    scored = json.loads((write_run(tmp_path / "a", "ours") / "results.json").read_text())
    for metric in scored["metrics"]:
        metric["key"] = metric["key"].replace("quiz", "gqa")
    (tmp_path / "a" / "results.json").write_text(json.dumps(scored | {"benchmark": "gqa"}))
    titles = {table.title: table for table in compared(tmp_path)}
    table = titles["Visual question answering, accuracy"]
    assert [line.kind for line in table.lines] == ["published"] * 6 + ["measured"]
    assert table.lines[-1].cells[0].metric["value"] == 0.5
    assert "gqa" in titles


def test_writes_a_page_markdown_and_csv_and_nothing_else(runs, tmp_path):
    out = tmp_path / "out"
    files = [out / name for name in ("c.html", "c.md", "c.csv")]
    with harmless(tmp_path):
        compared(runs, "--html", files[0], "--markdown", files[1], "--csv", files[2])
    assert "only B right" in files[0].read_text() or "only A right" in files[0].read_text()
    assert files[1].read_text().startswith("# Comparison of runs")
    with files[2].open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["base", "ours"] * 2


def test_only_the_benchmarks_that_were_named_are_compared(runs):
    write_run(runs / "r", benchmark="riddle", title="model on riddle")
    assert [table.benchmark for table in compared(runs, "--benchmark", "riddle")] == ["riddle"]
    with pytest.raises(ConfigError, match="no run is of pope") as error:
        compared(runs, "--benchmark", "pope")
    assert error.value.fix == "these runs are of quiz, riddle"


def test_a_table_without_the_reference_says_that_nothing_was_tested(runs):
    write_run(runs / "r", benchmark="riddle", title="model on riddle")
    quiz, riddle = compared(runs, "--against", runs / "base")
    assert riddle.notes == ["Not tested: --against has no run on these questions"]
    assert quiz.notes == []


def test_two_references_for_one_table_are_refused(runs):
    with pytest.raises(ConfigError, match="2 runs of quiz about the same questions") as error:
        compared(runs, "--against", runs)
    assert str(runs / "base") in error.value.fix


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path, capsys):
    write_run(tmp_path / "a", "evil\x1b[2J\x07[bold]")
    compared(tmp_path)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[bold]" in printed


def test_a_mistake_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main([str(tmp_path)])
    assert "error: there is no results.json here" in capsys.readouterr().err


def test_tables_need_no_torch(runs):
    code = (
        "import sys, locvlm.compare as c; c.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(runs), "--html", str(runs / "c.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
