import json
from importlib.resources import files

import pytest
import yaml

from locvlm.report.published import NOTE, paper_table, published_table
from locvlm.report.runs import read_runs
from tests.report.conftest import metric, write_run

NODES = yaml.safe_load((files("locvlm.evaluation") / "published.yaml").read_text())
TABLES = [published_table(node) for node in NODES]
TABLE = published_table(
    {
        "title": "Table 1",
        "source": "a paper",
        "setting": "In-context",
        "settings": {"no": "direct", "yes": "shown"},
        "columns": [
            {"title": "Quiz", "benchmark": "quiz", "metric": "quiz.{setting}"},
            {"title": "Riddle", "benchmark": "riddle", "metric": "riddle.{setting}"},
            {"title": "Hidden"},
        ],
        "rows": [{"name": "BLIP-2", "setting": "no", "values": [4.74, None, 8]}],
    }
)


def quiz(value, **more):
    return {"metrics": [metric("quiz.direct", value), metric("quiz.shown", value)]} | more


def riddle(value):
    more = {"benchmark": "riddle", "title": "ours on riddle"}
    return quiz(0) | more | {"metrics": [metric("riddle.direct", value)]}


def shown(table):
    return [
        [line.name, line.kind, line.setting]
        + [cell and cell.metric.get("printed", cell.metric["value"]) for cell in line.cells]
        for line in table.lines
    ]


def test_a_models_runs_stand_in_one_row_below_the_published_ones(tmp_path):
    write_run(tmp_path / "a", "ours", **quiz(0.5))
    write_run(tmp_path / "b", **riddle(0.25))
    table = paper_table(TABLE, read_runs([tmp_path]))
    assert shown(table) == [
        ["BLIP-2", "published", "no", "4.74", None, "8"],
        ["ours", "measured", "no", 0.5, 0.25, None],
        ["ours", "measured", "yes", 0.5, None, None],
    ]
    assert table.source == "a paper"
    assert table.notes == [NOTE]


def test_without_a_run_of_its_benchmarks_there_is_no_table(tmp_path):
    write_run(tmp_path / "a", "ours")
    assert paper_table(TABLE, read_runs([tmp_path])) is None


def test_two_runs_of_a_model_have_two_rows_and_what_differs_is_marked(tmp_path):
    write_run(tmp_path / "a", "ours", **quiz(0.5))
    write_run(tmp_path / "b", "ours", **quiz(0.25, version="2", data={"other.json": "def"}))
    table = paper_table(TABLE, read_runs([tmp_path]))
    own = [line for line in table.lines if line.kind == "measured" and line.setting == "no"]
    assert [(line.name, line.cells[0].note) for line in own] == [("ours", ""), ("ours", "a")]
    assert table.notes[1] == 'a: version: "2", not "1"; data: "def", not "abc"'


@pytest.mark.parametrize(
    ("file", "split", "expected"),
    [
        ("refer/refcoco/refs(unc).p", "testB", [True, False]),
        ("refer/refcoco+/refs(unc).p", "testB", [False, True]),
        ("refer/refcoco/refs(unc).p", "testA", [False, False]),
        ("mdetr/finetune_refcoco+_testB.json", "finetune_refcoco+_testB", [False, True]),
        ("refcoco/refcoco+/refs(unc).p", "testB", [False, True]),
    ],
)
def test_a_column_takes_runs_on_its_own_set_and_split_only(file, split, expected, tmp_path):
    columns = [
        {"title": name, "benchmark": "quiz", "metric": "quiz.easy", "words": [name, "testB"]}
        for name in ("refcoco", "refcoco+")
    ]
    table = published_table({"title": "t", "source": "s", "rows": [], "columns": columns})
    own = {"data": {f"/data/{file}": "abc"}, "protocol": {"split": split}}
    write_run(tmp_path / "a", "ours", metrics=[metric("quiz.easy", 0.5)], **own)
    made = paper_table(table, read_runs([tmp_path]))
    cells = made.lines[0].cells if made else [None, None]
    assert [cell is not None for cell in cells] == expected


@pytest.mark.parametrize("table", TABLES, ids=[table.title for table in TABLES])
def test_every_published_row_has_a_number_or_a_gap_for_each_column(table):
    for row in table.rows:
        assert len(row.values) == len(table.columns)
        assert all(value is None or -100 < value < 100 for value in row.values)
        assert bool(row.setting) == bool(table.setting)
    assert table.source


def test_every_column_is_of_a_benchmark_that_there_is():
    options = files("locvlm.conf") / "benchmark"
    names = {column.benchmark for table in TABLES for column in table.columns} - {""}
    assert [name for name in names if not (options / f"{name}.yaml").is_file()] == []


def test_well_known_published_figures_are_where_they_belong():
    def value(title, name, setting, column):
        [table] = [table for table in TABLES if table.title == title]
        [row] = [row for row in table.rows if (row.name, row.setting) == (name, setting)]
        return row.values[[one.title for one in table.columns].index(column)]

    assert value("COCO-Spatial, accuracy", "LocVLM-B", "yes", "Left") == 90.4
    assert value("Visual question answering, accuracy", "LocVLM-L", "yes", "VQAv2 test") == 78.6
    assert value("Object hallucination, accuracy", "LocVLM", "", "Hal-ADE") == 75.2
    assert value("Region description, METEOR", "LocVLM-B", "zero-shot", "RefCOCOg val") == 20.6
    video = "Video question answering, accuracy"
    assert value(video, "Video-ChatGPT", "zero-shot", "TGIF-QA") == 51.4
    assert value("Ablation: coordinates", "DIGA", "", "RefCOCOg test") == 20.8
    assert value("Waterbirds, accuracy", "CLIP", "", "Landbird Δ") == -32.9
    assert json.dumps(NODES)  # plain data
