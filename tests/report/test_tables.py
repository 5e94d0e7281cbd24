from locvlm.report.tables import (
    headline_rows,
    markdown,
    metrics_csv,
    percent,
    table_rows,
    tables,
    value_rows,
)


def test_metrics_stand_in_their_table_row_and_column(results):
    [table] = tables(results["metrics"])
    assert (table.columns, table.rows) == (["accuracy", "lost", "other"], ["row", "second row"])
    assert table.cell("row", "accuracy")["value"] == 0.75
    assert table.cell("second row", "accuracy") is None
    assert (table.n("row"), table.n("second row")) == (40, 0)
    assert (table.direction("accuracy"), table.direction("lost")) == ("higher", "lower")


def test_rows_of_text_hold_value_interval_and_count(results):
    [table] = tables(results["metrics"])
    assert table_rows(table) == (
        ["", "accuracy", "lost", "other", "n"],
        [
            ["row", "75.0 (65.0 to 85.0)", "20.0 (10.0 to 30.0)", "", "40"],
            ["second row", "", "", "–", "0"],
        ],
    )


def test_the_terminal_gets_values_and_the_headlines_with_intervals(results):
    [table] = tables(results["metrics"])
    assert value_rows(table)[1][0] == ["row", "75.0", "20.0", "", "40"]
    assert headline_rows(results["metrics"])[1] == [["Right answers", "75.0", "65.0 to 85.0", "40"]]


def test_markdown_is_a_table_that_bars_in_names_do_not_break(results):
    results["metrics"][0]["row"] = results["metrics"][1]["row"] = "a | b"
    lines = markdown(results).splitlines()
    assert lines[0] == "# runs/x/model on tiny"
    assert "| --- | ---: | ---: | ---: | ---: |" in lines
    assert r"| a \| b | 75.0 (65.0 to 85.0) | 20.0 (10.0 to 30.0) |  | 40 |" in lines


def test_markdown_shows_notes_and_no_text_as_markup(results):
    results["title"], results["notes"] = "<b>run</b>", ["3 of 9 images | leaked"]
    lines = markdown(results).splitlines()
    assert lines[0] == r"# \<b\>run\</b\>"
    assert r"**Note:** 3 of 9 images \| leaked" in lines


def test_csv_holds_every_metric_as_a_fraction(results):
    results["metrics"][0]["row"] = "=1+1"
    header, first, *others = metrics_csv(results).splitlines()
    assert header == "key,table,row,column,value,low,high,n,better,chance"
    assert first == "part.row.accuracy,Table | one,'=1+1,accuracy,0.75,0.65,0.85,40,higher,0.5"
    assert others[1] == "part.row.other,Table | one,second row,other,,,,0,higher,"


def test_nothing_counted_is_a_dash():
    assert percent(None) == "–"
    assert percent(0.12345) == "12.3"
