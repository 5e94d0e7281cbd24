import json

import pytest

from locvlm.dialects import fractions, shikra
from locvlm.errors import DataError
from locvlm.predictors.ask import ask
from locvlm.predictors.recorded import Recorded, read_recorded
from locvlm.types import Box, Message, Question, Sample

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


def lines(file, *records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def about(image=b"1", key="a", text="Why?", candidates=()):
    sample = Sample("photo", "test", image=image, size=(100, 50))
    return Question(key, sample, (Message("user", (text,)),), candidates)


def test_lines_of_keys_and_texts_are_answers(tmp_path):
    file = lines(
        tmp_path / "theirs.jsonl",
        {"key": "a", "text": "At [0.100, 0.200, 0.300, 0.400]."},
        {"key": "b", "text": "x", "likelihoods": [-1.0, -2.0]},
    )
    recorded = read_recorded(file, fractions())
    assert recorded.name == "theirs"
    assert recorded.answer([about()]) == ["At [0.100, 0.200, 0.300, 0.400]."]
    assert recorded.score([about(key="b", candidates=("x", "y"))]) == [[-1.0, -2.0]]
    boxes = recorded.decode(recorded.answers["a"], about()).boxes
    assert boxes[0] == pytest.approx(Box(10, 10, 30, 20))


def test_the_file_of_an_earlier_run_answers_the_same_questions(tmp_path, caplog):
    first = Recorded("me", None, {"a": "so", "b": "no"}, {"c": (-1.0, -2.0)})
    questions = [about(), about(b"2", "b"), about(key="c", candidates=("x", "y"))]
    file = tmp_path / "answers.jsonl"
    said = ask([*questions, about(key="again")], first, file)
    again = read_recorded(file, fractions())
    assert again.answer(questions[:2]) == ["so", "no"]
    assert again.score(questions[2:]) == [[-1.0, -2.0]]
    assert again.answer([about(key="again")]) == ["so"]  # it equals "a", which was asked
    assert ask(questions, again, tmp_path / "copy.jsonl") == said[:3]
    assert caplog.text == ""


def test_it_is_told_where_a_question_was_asked_in_other_words(tmp_path, caplog):
    file = tmp_path / "answers.jsonl"
    ask([about(), about(b"2", "b")], Recorded("me", None, {"a": "so", "b": "no"}), file)
    changed = [about(text="Why, please?"), about(b"2", "b")]
    assert read_recorded(file, fractions()).answer(changed) == ["so", "no"]
    assert "1 of 2 questions were recorded with other words" in caplog.text


def test_the_identity_follows_the_file(tmp_path):
    file = lines(tmp_path / "a.jsonl", {"key": "a", "text": "so"})
    before = read_recorded(file, fractions()).identity
    assert read_recorded(file, shikra(), "other name").identity == before
    lines(file, {"key": "a", "text": "no"})
    assert read_recorded(file, fractions()).identity != before


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "this line is no answer"),
        ({"key": "b"}, "this line is no answer"),
        ({"key": 3, "text": "so"}, "this line is no answer"),
        ({"key": "b", "text": "so", "question": []}, "this line is no answer"),
        ({"key": "b", "text": "so", "likelihoods": ["much"]}, "this line is no answer"),
        ({"key": "a", "text": "no"}, "a second answer to 'a'"),
    ],
)
def test_a_line_that_is_no_answer_is_named(tmp_path, record, message):
    file = lines(tmp_path / "a.jsonl", {"key": "a", "text": "so"}, record)
    with pytest.raises(DataError, match=message) as error:
        read_recorded(file, fractions())
    assert "line 2" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="gone"):
        read_recorded(tmp_path / "gone.jsonl", fractions())
