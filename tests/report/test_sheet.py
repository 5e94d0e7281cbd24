import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.report.sheet import csv_text, markdown_cell, markdown_table


def test_a_table_has_words_on_the_left_and_numbers_on_the_right():
    assert markdown_table(["", "n"], [["a", "1"]]) == "|  | n |\n| --- | ---: |\n| a | 1 |"
    assert markdown_table(["", "", "n"], [], n_left=2).endswith("| --- | --- | ---: |")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a | b", r"a \| b"),
        ("two\nlines\r\nand more", "two lines and more"),
        ("<script>", r"\<script\>"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("\\|", r"\\\|"),
        ("`code`", r"\`code\`"),
    ],
)
def test_markdown_shows_text_as_it_is(text, cell):
    assert markdown_cell(text) == cell


@given(st.text())
def test_no_text_makes_another_cell_or_another_line(text):
    table = markdown_table(["a", "b"], [[text, "1"]])
    row = table.splitlines()[2:]
    assert len(row) == 1
    plain = row[0].replace("\\\\", "").replace("\\|", "")
    assert plain.count("|") == 3


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\n", "＝"])
def test_text_is_never_a_formula(first):
    [row] = csv.reader(io.StringIO(csv_text([f"{first}cmd|' /C calc'!A0"], []), newline=""))
    assert row == [f"'{first}cmd|' /C calc'!A0"]


def test_numbers_stay_numbers_and_nothing_is_empty():
    assert csv_text(["a", "b"], [[-0.5, None]]) == "a,b\n-0.5,\n"
    assert csv_text(["-1e-5"], []) == "-1e-5\n"


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_what_was_written_can_be_read(cells):
    [row] = csv.reader(io.StringIO(csv_text(cells, []), newline=""))
    lines = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in cells]
    assert [cell.removeprefix("'") for cell in row] == [cell.removeprefix("'") for cell in lines]
