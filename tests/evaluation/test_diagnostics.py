import pytest

from locvlm.evaluation.diagnostics import consistency, ways
from locvlm.spatial import SideFact
from locvlm.types import Box, Instance

DOG = Instance("dog", Box(0, 0, 30, 10))
CAT = Instance("cat", Box(70, 20, 100, 30))
FACT = SideFact(DOG, "horizontal", "left", CAT)
EXAMPLE = SideFact(CAT, "horizontal", "right", DOG)


def found(asked, *, diagnostics=True, examples=(EXAMPLE,)):
    return list(ways(FACT, examples, 100, asked, diagnostics=diagnostics))


def test_a_pair_is_asked_about_in_every_way():
    assert [(way.change, way.view, way.fact.side, way.part) for way in found([""])] == [
        ("", "", "left", "benchmark"),
        ("", "grey", "left", "diagnostics"),
        ("mirrored", "mirrored", "right", "diagnostics"),
        ("swapped", "", "right", "diagnostics"),
    ]


def test_without_diagnostics_the_benchmark_is_left():
    ways_asked = found(["", "mirrored"], diagnostics=False)
    assert [(way.change, way.part) for way in ways_asked] == [
        ("", "benchmark"),
        ("mirrored", "benchmark"),
    ]


def test_all_that_the_benchmark_asks_is_asked_without_seeing_too():
    grey = [way for way in found(["", "mirrored"]) if way.view == "grey"]
    # The same words about the same grey have either answer: a habit is right half of the time.
    assert [way.fact.side for way in grey] == ["left", "right"]


def test_worked_examples_are_true_of_the_image_that_is_shown():
    plain, mirror = found(["", "mirrored"], diagnostics=False)
    assert plain.examples == (EXAMPLE,)
    assert mirror.examples[0].side == "left"
    assert mirror.fact.instance.box == Box(70, 0, 100, 10)


def test_diagnostics_have_no_worked_examples():
    assert not any(way.examples for way in found([""]) if way.part == "diagnostics")


@pytest.mark.parametrize(("turns", "share"), [(True, 0.5), (False, 0.25)])
def test_consistency_counts_the_pairs_that_were_asked_about_in_both_ways(turns, share):
    named = {
        "a": {"": "left", "mirrored": "right"},
        "b": {"": "left", "mirrored": "left"},
        "c": {"": None, "mirrored": "left"},
        "d": {"": "right", "mirrored": "left"},
        "e": {"": "right", "swapped": "left"},
        "f": {"mirrored": "left"},
    }
    pairs, ratio = consistency(named, "mirrored", turns=turns)
    assert pairs == ["a", "b", "c", "d"]
    assert ratio.value == share
