import pytest

from locvlm.data.audit import Supervision, check_supervised, token_rows
from locvlm.errors import DataError
from locvlm.types import Message
from tests.data.conftest import annotated


@pytest.fixture
def example(processor):
    sample = annotated(0)
    box = sample.instances[0].box
    turns = [Message("user", ("Where?",)), Message("assistant", ("At ", box, "."))]
    return processor.encode(sample, turns)


def test_says_what_each_token_stands_for(example, processor):
    rows = token_rows(example, processor)
    meanings = [row.meaning for row in rows]
    assert meanings.count("image") == 1
    assert meanings[-1] == "end"
    assert "number" in meanings
    assert all(row.label is None for row in rows if row.meaning in ("image", "prompt"))
    assert all(row.label == row.id for row in rows if row.meaning in ("answer", "number", "end"))


def test_rows_cover_the_whole_sequence(example, processor):
    rows = token_rows(example, processor)
    assert len(rows) - 1 + processor.image_tokens == len(example["input_ids"])


def test_the_share_counts_all_tokens():
    assert Supervision(2, 200, 50, 0, ()).share == 0.25
    check_supervised(Supervision(2, 200, 50, 0, ()))


def test_refuses_data_from_which_nothing_is_learned():
    with pytest.raises(DataError, match="none of 200 tokens is learned"):
        check_supervised(Supervision(2, 200, 0, 2, ()))


def test_says_why_all_samples_are_bad():
    with pytest.raises(DataError, match="all 2 samples are bad; the first one: cut short"):
        check_supervised(Supervision(2, 0, 0, 0, ("cut short", "missing")))
