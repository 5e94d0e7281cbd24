import csv
import io
from types import SimpleNamespace

from locvlm.report.compared import BETTER, Cell, Column, Comparison, Line, benchmark_table
from locvlm.report.compared_text import csv_of, markdown, paired_rows, rows, signed
from locvlm.report.runs import read_runs
from tests.report.conftest import write_run

NUMBER = {"key": "quiz.accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 1200}
PRINTED = {"value": 0.0474, "low": None, "high": None, "n": None, "printed": "4.74"}
PAPER = Comparison(
    "Table 1",
    "",
    [Column("All", "quiz.accuracy"), Column("Lost", "quiz.lost", "lower")],
    [
        Line("BLIP-2", "published", [Cell(PRINTED), None], "zero-shot"),
        Line("ours | <b>", "measured", [Cell(NUMBER, BETTER, "a"), None], "", "b"),
    ],
    ["a: another version", "b: another prompt"],
    source="a paper",
    setting="In-context",
)


def test_a_row_says_its_kind_its_numbers_and_how_many_questions_they_stand_on():
    assert rows(PAPER, between=" ") == (
        ["", "", "In-context", "All ↑", "Lost ↓", "n"],
        [
            ["BLIP-2", "published", "zero-shot", "4.74", "", ""],
            ["ours | <b> [b]", "measured", "", "50.0 ▲ [a] (40.0 to 60.0)", "", "1,200"],
        ],
    )


def test_the_reference_of_tests_is_called_so():
    line = Line("one", "measured", [Cell(NUMBER)], is_reference=True)
    assert rows(Comparison("t", "quiz", [Column("All")], [line]))[1][0][1] == "reference"


def test_a_test_is_a_row_with_p_and_outcomes():
    one = SimpleNamespace(
        a=0.75,
        b=0.5,
        difference=SimpleNamespace(value=0.25, low=-0.01, high=0.51, n=40),
        p=0.0619,
        p_mcnemar=0.00004,
        outcomes={"both right": 20, "only A right": 10, "only B right": 0, "both wrong": 10},
    )
    table = Comparison("t", "quiz", [], [], reference="b", paired={"a": {"all questions": one}})
    assert paired_rows(table)[1] == [
        ["a", "all questions", "40", "75.0", "50.0", "+25.0", "−1.0 to +51.0", "0.062", "4e-05"]
        + ["20", "10", "0", "10"]
    ]
    one.p_mcnemar = None
    assert paired_rows(table)[1][0][8] == ""


def test_differences_have_a_sign_unless_they_are_none():
    assert [signed(value) for value in (0.012, -0.3, 0.0001, -0.0001)] == [
        "+1.2",
        "−30.0",
        "0.0",
        "0.0",
    ]


def test_markdown_holds_tables_sources_and_notes_that_no_name_breaks():
    lines = markdown([PAPER], "Runs").splitlines()
    assert lines[0] == "# Runs"
    assert "| --- | --- | --- | ---: | ---: | ---: |" in lines
    ours = r"| ours \| \<b\> \[b\] | measured |  | 50.0 ▲ \[a\] (40.0 to 60.0) |  | 1,200 |"
    assert ours in lines
    assert "- Published: a paper." in lines
    assert "- a: another version" in lines


def read(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_has_a_line_for_each_number_as_fractions_and_says_where_it_is_from():
    published, measured = read(csv_of([PAPER]))
    assert (published["name"], published["setting"]) == ("BLIP-2", "zero-shot")
    assert (published["value"], published["low"], published["note"]) == ("0.0474", "", "a paper")
    assert (measured["value"], measured["n"], measured["verdict"]) == ("0.5", "1200", BETTER)
    assert measured["note"] == "another version"


def test_csv_has_all_metrics_of_a_run_and_what_keeps_it_apart(tmp_path):
    write_run(tmp_path / "a", "=cmd()", version="2")
    write_run(tmp_path / "b", "two")
    write_run(tmp_path / "c", "three")
    found = read(csv_of([benchmark_table(read_runs([tmp_path]))]))
    assert [(row["name"], row["key"]) for row in found[:3]] == [
        ("'=cmd()", "quiz.accuracy"),
        ("two", "quiz.accuracy"),
        ("three", "quiz.accuracy"),
    ]
    assert found[0]["note"] == 'version: "2", not "1" as in two'
    assert found[1]["note"] == ""
    assert len(found) == 6
