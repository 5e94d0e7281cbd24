import pytest

from locvlm.errors import DataError
from locvlm.predictors.recorded import Recorded
from locvlm.types import Message, Question, Sample

QUESTION = Question("a", Sample("words", "test"), (Message("user", ("Why?",)),), ("x", "y"))


def test_gives_what_was_recorded():
    recorded = Recorded("me", read=None, answers={"a": "so"}, likelihoods={"a": (-1, -2)})
    assert recorded.answer([QUESTION]) == ["so"]
    assert recorded.score([QUESTION]) == [[-1, -2]]


def test_counts_what_is_missing():
    with pytest.raises(DataError, match="1 of 1 questions have no recorded answer, such as 'a'"):
        Recorded("me", read=None).answer([QUESTION])


def test_reads_locations_with_the_given_function():
    sample = Sample("photo", "test", image=b"", size=(4, 3))
    question = Question("a", sample, QUESTION.messages)
    recorded = Recorded("me", read=lambda text, size: (text, size))
    assert recorded.decode("words", question) == ("words", (4, 3))


def test_a_text_without_an_image_has_no_locations():
    with pytest.raises(DataError, match="without an image"):
        Recorded("me", read=None).decode("words", QUESTION)
