from dataclasses import replace

from locvlm.data.audit import Supervision
from locvlm.data.split_audit import Audit, SourceAudit
from locvlm.data.survey import survey
from locvlm.report.audit import BOTTOM, TOP, headlines, tables
from locvlm.types import Box, Instance, Sample
from tests.data.conftest import picture, talked


def table(audit, title):
    [found] = [table for table in tables(audit) if table.title.startswith(title)]
    return found


def test_tables_come_in_the_order_of_their_weight(audit):
    assert [table.title.split()[0] for table in tables(audit)] == [
        *("Sources", "Benchmark", "Tokens,", "Images", "Words", "Categories:")
    ]


def test_all_rows_fit_their_columns(audit):
    for found in tables(audit):
        assert {len(row) for row in found.rows} == {len(found.columns)}


def test_sources_are_counted_with_their_bad_samples(audit):
    assert table(audit, "Sources").rows == [
        ("data.train.a", "shards/a", 2, 0, "75.0 %", "annotated image 2"),
        ("data.train.b", "shards/b", 3, 2, "25.0 %", "conversation 1"),
    ]


def test_tokens_are_summed_up_by_kind(audit):
    rows = table(audit, "Tokens").rows
    assert rows[0] == ("talk", 100, 1, 50, 95, 100, "0.0 %", "25.0 %", "0.0 %", "50.0 %")
    assert rows[1][:7] == ("annotated image", 1, 400, 400, 400, 400, "100.0 %")
    assert rows[2][:2] == ("all", 101)


def test_leaks_say_how_images_were_recognized(audit):
    found = table(audit, "Benchmark")
    assert found.rows == [("pope", 2, 1, 1, 0, 0, 1)]
    assert "0 of 3 images of these data have a COCO name" in found.note


def test_without_benchmarks_there_is_no_table_of_leaks(audit):
    plain = Audit("train", audit.sources, audit.learned)
    assert not [table for table in tables(plain) if table.title.startswith("Benchmark")]
    assert "samples of benchmarks" not in dict(headlines(plain))


def test_a_sample_that_two_benchmarks_show_counts_once(audit):
    twice = replace(audit, leaks=[*audit.leaks, *audit.leaks])
    assert dict(headlines(twice))["samples of benchmarks"] == "1"


def test_words_are_counted_by_their_place(audit):
    assert table(audit, "Words").rows == [("left", 1, 1, 0)]


def test_the_most_and_the_least_frequent_categories_are_shown():
    many = [
        Sample(
            f"{n}",
            "x",
            picture(n),
            (48, 40),
            tuple(Instance(f"c{k:02}", Box(1, 1, 9, 9)) for k in range(20 - n)),
        )
        for n in range(20)
    ]
    audit = Audit("train", [SourceAudit("a", "a", 1.0, survey(many))], Supervision(()))
    found = table(audit, "Categories")
    assert "20 of 210 instances" in found.title
    assert len(found.rows) == TOP + 1 + BOTTOM
    assert found.rows[0] == ("c00", 20, "9.5 %", "100.0 %")
    assert found.rows[TOP][0] == "..."
    assert found.rows[-1] == ("c19", 1, "0.5 %", "100.0 %")


def test_an_audit_of_nothing_has_tables_too():
    audit = Audit("train", [SourceAudit("a", "a", 1.0, survey([]))], Supervision(()))
    assert tables(audit)[0].title == "Sources of data.train"
    assert dict(headlines(audit))["longest sequence"] == "-"


def test_a_percentage_is_no_text():
    sources = SourceAudit("a", "a", 1.0, survey([talked(0)]))
    found = table(Audit("train", [sources], Supervision(())), "Sources")
    assert [found.is_text(n) for n in range(6)] == [True, True, False, False, False, True]
