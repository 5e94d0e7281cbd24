import json

import pytest

from locvlm.errors import DataError
from locvlm.report.runs import differences, read_runs
from tests.report.conftest import metric, write_run


def test_a_run_is_found_by_its_folder_its_file_or_a_folder_above(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "deep" / "b", "other")
    for path in (a, a / "results.json"):
        [run] = read_runs([path])
        assert (run.name, run.benchmark, run.folder) == ("model", "quiz", a)
    assert [run.folder for run in read_runs([tmp_path])] == [a, b]
    assert [run.folder for run in read_runs([b, tmp_path, a])] == [b, a]


def test_one_model_twice_is_told_apart_by_its_folders(tmp_path):
    a, b = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert [run.name for run in read_runs([a, b])] == [f"model ({a})", f"model ({b})"]


def test_one_model_on_other_questions_keeps_its_name(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", data={"other.json": "def"})
    assert [run.name for run in read_runs([tmp_path])] == ["model", "model"]


def test_data_are_told_by_the_files_or_else_by_the_questions(tmp_path):
    write_run(tmp_path / "a", data={"x/q.json": "abc", "images": 3, "sha256": "1"})
    write_run(tmp_path / "b", data={"y/q.json": "abc", "images": 3, "sha256": "2"})
    write_run(tmp_path / "c", data={"images": 3, "sha256": "1"})
    assert [run.data for run in read_runs([tmp_path])] == [("abc",), ("abc",), ("1",)]


def test_every_field_in_which_protocols_differ_is_named(tmp_path):
    write_run(tmp_path / "a")
    write_run(
        tmp_path / "b",
        version="2",
        protocol={"split": "val", "prompt": {"text": "R"}, "judge": "x" * 99},
        data={"quiz.json": "abd"},
        scores=[1, 1, 0],
    )
    a, b = read_runs([tmp_path])
    assert differences(a, a) == []
    assert differences(b, a) == [
        'version: "2", not "1"',
        f'protocol.judge: "{"x" * 58}…, not nothing',
        'protocol.prompt.text: "R", not "Q"',
        'data: "abd", not "abc"',
        "answered: 3, not 4",
    ]


def test_items_are_read_on_demand_and_may_be_absent(tmp_path):
    folder = write_run(tmp_path / "a")
    [run] = read_runs([folder])
    assert [item["score"] for item in run.items()] == [1, 1, 0, 0]
    (folder / "items.jsonl").unlink()
    assert run.items() == []


def test_a_malformed_item_is_named_by_its_line(tmp_path):
    folder = write_run(tmp_path / "a")
    with (folder / "items.jsonl").open("a") as file:
        file.write('{"key": "quiz/9", "score": "high"}\n')
    [run] = read_runs([folder])
    with pytest.raises(DataError, match="no question of a run") as error:
        run.items()
    assert error.value.where.endswith("items.jsonl, line 5")


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no results.json here"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": None},
        {"metrics": [{"key": "a"}]},
        {"metrics": ["accuracy"]},
        {"metrics": [metric("a.b", 0.5) | {"chance": "half"}]},
        {"metrics": [metric("a.b", 0.5) | {"value": "high"}]},
        {"metrics": [metric("a.b", 0.5) | {"value": float("nan")}]},
        {"metrics": [metric("a.b", 0.5) | {"n": None}]},
        {"benchmark": 3},
        {"protocol": []},
        {"data": "abc"},
    ],
)
def test_what_is_no_results_file_is_refused_by_name_and_left_out_below_a_folder(
    change, tmp_path, caplog
):
    good, bad = write_run(tmp_path / "good"), write_run(tmp_path / "bad")
    results = json.loads((bad / "results.json").read_text()) | change
    (bad / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match="no results file of an evaluation"):
        read_runs([bad])
    assert [run.folder for run in read_runs([tmp_path])] == [good]
    assert str(bad) in caplog.text


def test_results_of_another_format_are_refused_with_the_way_out(tmp_path):
    folder = write_run(tmp_path / "a", format=2)
    with pytest.raises(DataError, match="have format 2, this program reads 1"):
        read_runs([folder])
