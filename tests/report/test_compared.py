from types import SimpleNamespace

from locvlm.report.compared import BETTER, MOST, WORSE, Notes, benchmark_table, groups
from locvlm.report.runs import read_runs
from tests.report.conftest import metric, write_run


def paired(a, b, n, difference, *, significant=True, **keys):
    """A test's result, as evaluation.paired gives it."""
    keys = {"only_a": [], "only_b": [], "unlike": []} | keys
    estimate = SimpleNamespace(value=difference, low=difference, high=difference, n=n)
    whole = {"whole_a": SimpleNamespace(value=a, n=n), "whole_b": SimpleNamespace(value=b, n=4)}
    return SimpleNamespace(difference=estimate, is_significant=significant, **whole, **keys)


def cells(table, name):
    return next(line for line in table.lines if line.name == name).cells


def test_runs_that_asked_the_same_questions_share_a_table(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", data={"other.json": "def"})
    write_run(tmp_path / "c", "three")
    write_run(tmp_path / "d", "four", benchmark="riddle", title="four on riddle")
    found = [[run.name for run in group] for group in groups(read_runs([tmp_path]))]
    assert found == [["one", "three"], ["two"], ["four"]]


def test_a_table_has_a_row_for_each_run_and_a_column_for_each_metric(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", scores=[1, 1, 1, 0])
    table = benchmark_table(read_runs([tmp_path]))
    assert table.title == "quiz"
    assert [column.key for column in table.columns] == ["quiz.accuracy", "quiz.easy"]
    assert [column.title for column in table.columns] == ["accuracy", "easy"]
    assert cells(table, "two")[0].metric["value"] == 0.75
    assert table.notes == []


def test_many_metrics_are_shown_by_their_headlines_and_all_in_the_details(tmp_path):
    many = [metric(f"quiz.type.{n}", 0.5, row=f"type {n}") for n in range(MOST)]
    first = metric("quiz.accuracy", 0.5, headline="Quiz accuracy")
    write_run(tmp_path / "a", metrics=[first, *many])
    table = benchmark_table(read_runs([tmp_path]))
    assert [column.title for column in table.columns] == ["Quiz accuracy"]
    [detail] = table.details
    assert len(detail.lines) == 1 + MOST
    assert detail.lines[1].name == "0"


def test_columns_of_one_name_say_their_row_too(tmp_path):
    twice = [metric(f"quiz.{row}.all", 0.5, row=row) for row in ("left", "above")]
    write_run(tmp_path / "a", metrics=twice)
    table = benchmark_table(read_runs([tmp_path]))
    assert [column.title for column in table.columns] == ["left: all", "above: all"]


def test_a_metric_that_only_one_run_has_is_empty_for_the_others(tmp_path):
    write_run(tmp_path / "a", "one", metrics=[metric("quiz.accuracy", 0.5)])
    write_run(tmp_path / "b", "two")
    table = benchmark_table(read_runs([tmp_path]))
    assert cells(table, "one")[1] is None
    assert cells(table, "two")[1] is not None


def test_a_run_of_another_protocol_is_marked_with_the_field_that_differs(tmp_path):
    write_run(tmp_path / "a", "one", version="0")
    write_run(tmp_path / "b", "two")
    write_run(tmp_path / "c", "three")
    table = benchmark_table(read_runs([tmp_path]))
    assert {line.name: line.note for line in table.lines} == {"one": "a", "two": "", "three": ""}
    assert table.notes == ['a: version: "0", not "1" as in two']


def test_the_reference_sets_the_protocol(tmp_path):
    write_run(tmp_path / "a", "one", version="0")
    write_run(tmp_path / "b", "two")
    write_run(tmp_path / "c", "three")
    runs = read_runs([tmp_path])
    table = benchmark_table(runs, reference=runs[0])
    assert {line.name: line.note for line in table.lines} == {"one": "", "two": "a", "three": "a"}
    assert [line.is_reference for line in table.lines] == [True, False, False]


def test_other_questions_are_said_to_be_others(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", data={"some/other.json": "def"})
    one, two = read_runs([tmp_path])
    table = benchmark_table([two], other=one)
    assert table.title == "quiz, other"
    [note] = table.notes
    assert note == 'Other questions than in the table of quiz: data: "def", not "abc"'


def test_only_the_mean_score_that_was_tested_is_marked(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", scores=[1, 1, 1, 0])
    write_run(tmp_path / "c", "three", scores=[1, 0, 0, 0])
    one, two, three = read_runs([tmp_path])
    results = {
        "two": {"all": paired(0.75, 0.5, 4, 0.25)},
        "three": {"all": paired(0.25, 0.5, 4, -0.25)},
    }
    table = benchmark_table([one, two, three], reference=one, paired=results)
    verdicts = {line.name: [cell.verdict for cell in line.cells] for line in table.lines}
    assert verdicts == {"one": ["", ""], "two": [BETTER, ""], "three": [WORSE, ""]}


def test_a_run_that_lacks_an_answer_is_marked_by_what_it_shares(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", scores=[1, 1, 1])
    one, two = read_runs([tmp_path])
    results = {"two": {"all": paired(1.0, 0.5, 3, 0.25)}}
    table = benchmark_table([one, two], reference=one, paired=results)
    assert [cell.verdict for cell in cells(table, "two")] == [BETTER, ""]


def test_nothing_is_marked_that_chance_explains_or_that_counts_other_questions(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two", scores=[1, 1, 1, 0])
    one, two = read_runs([tmp_path])
    for test in (paired(0.75, 0.5, 4, 0.25, significant=False), paired(0.75, 0.5, 3, 0.25)):
        table = benchmark_table([one, two], reference=one, paired={"two": {"all": test}})
        assert [cell.verdict for cell in cells(table, "two")] == ["", ""]


def test_questions_left_out_of_a_test_are_counted_and_named(tmp_path):
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two")
    one, two = read_runs([tmp_path])
    test = paired(0.5, 0.5, 4, 0, only_a=["quiz/7", "quiz/8"], only_b=["quiz/9"], unlike=["q/1"])
    table = benchmark_table([one, two], reference=one, paired={"two": {"all": test}})
    assert table.notes == [
        "Left out of the test: 2 that two has and one has not, such as quiz/7",
        "Left out of the test: 1 that one has and two has not, such as quiz/9",
        "Left out of the test: 1 with another right answer in two than in one, such as q/1",
    ]


def test_equal_notes_share_a_letter_and_letters_go_on_after_z():
    notes = Notes()
    assert [notes.letter(text) for text in ("x", "y", "x", "")] == ["a", "b", "a", ""]
    letters = [notes.letter(str(n)) for n in range(26)]
    assert (letters[23], letters[24], letters[25]) == ("z", "aa", "bb")
