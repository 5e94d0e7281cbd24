import json

from locvlm.evaluation.bootstrap import ratio
from locvlm.evaluation.results import (
    Column,
    Item,
    Mark,
    Row,
    item_record,
    metric_record,
)
from locvlm.types import Box

ROW = Row("part.row", "Table", "row", ["a", "b"], seed=1)


def test_a_row_gives_its_columns_with_intervals():
    right, lost = ROW.metrics(
        Column("right", "Right", ratio([1, 0]), headline="Right answers", chance=0.5),
        Column("lost", "Lost", ratio([0, 0]), "lower"),
    )
    assert (right.key, right.table, right.row, right.column) == (
        "part.row.right",
        "Table",
        "row",
        "Right",
    )
    assert (right.estimate.value, right.estimate.n) == (0.5, 2)
    assert (right.headline, right.chance, lost.better) == ("Right answers", 0.5, "lower")


def test_records_are_json_and_nan_is_null():
    [metric] = ROW.metrics(Column("none", "None", ratio([1, 1], [0, 0])))
    record = json.loads(json.dumps(metric_record(metric), allow_nan=False))
    assert (record["value"], record["low"], record["n"]) == (None, None, 0)


def test_an_item_is_written_with_its_marks():
    item = Item("k", "g", "photo", "q", "a", "w", "right", 1.0, (Mark("true", Box(1, 2, 3, 4)),))
    record = json.loads(json.dumps(item_record(item)))
    assert record["marks"] == [{"role": "true", "location": [1, 2, 3, 4], "label": ""}]
