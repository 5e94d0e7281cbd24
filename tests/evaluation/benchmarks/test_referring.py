import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.referring import referred
from locvlm.types import Box


def test_each_referred_object_stands_once_with_all_that_was_said_of_it(refcoco):
    found = referred(refcoco(verbatim=True))
    assert [one.box for one in found.objects] == [Box(2, 3, 12, 8), Box(20, 3, 30, 8)]
    first, second = found.objects
    assert (first.id, first.image, first.size) == ("1/0", "a.png", (40, 30))
    assert dict(zip(first.expressions, first.unique, strict=True)) == {
        "left cat": False,
        "The cat is asleep.": True,
    }
    assert second.expressions == ("right cat", "left cat")
    assert found.left_out == {"left out: image file is missing": 1}


def test_mdetrs_files_name_the_same_objects(refcoco, mdetr):
    ours, theirs = referred(refcoco()).objects, referred(mdetr()).objects
    assert [one[2:] for one in theirs] == [one[2:] for one in ours]


def test_a_reader_that_finds_nothing_is_an_error_that_says_why(refcoco, tmp_path):
    (tmp_path / "train2014" / "a.png").unlink()
    with pytest.raises(DataError, match="2 x image file is missing"):
        referred(refcoco())
