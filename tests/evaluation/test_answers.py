import json
from dataclasses import replace

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.answers import Given, match, read_answers
from locvlm.types import Message, Question, Sample


def write(path, *records, lines=True):
    text = "\n".join(map(json.dumps, records)) if lines else json.dumps(records)
    path.write_text(text)
    return path


def read(file):
    return read_answers(file, ("question_id",), ("text", "answer"))


def question(key):
    sample = Sample("photo", "by hand")
    return Question(f"quiz/{key}", sample, (Message("user", ("?",)),), meta={"id": key})


@pytest.mark.parametrize("lines", [True, False])
def test_reads_arrays_and_json_lines_whatever_the_file_is_called(tmp_path, lines):
    records = {"question_id": 1, "text": "Yes"}, {"question_id": "n2", "answer": "2"}
    given = read(write(tmp_path / "answers.json", *records, lines=lines))
    assert given.texts == {"1": "Yes", "n2": "2"}
    assert not given.repeated


@pytest.mark.parametrize("lines", [True, False])
def test_a_mark_of_byte_order_says_nothing(tmp_path, lines):
    file = write(tmp_path / "answers.json", {"question_id": 1, "text": "Yes"}, lines=lines)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read(file).texts == {"1": "Yes"}


def test_numbers_are_read_as_their_text(tmp_path):
    given = read(write(tmp_path / "a.jsonl", {"question_id": 1, "answer": 2}))
    assert given.texts == {"1": "2"}


def test_the_last_of_two_answers_counts_and_the_id_is_remembered(tmp_path):
    twice = [{"question_id": 1, "text": text} for text in ("no", "no", "yes")]
    same = [{"question_id": 2, "text": "no"}] * 2
    given = read(write(tmp_path / "a.jsonl", *twice, *same))
    assert given.texts == {"1": "yes", "2": "no"}
    assert given.repeated == ["1"]


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"question_id": 1}, "there is no text at 'text' or 'answer'"),
        ({"text": "yes"}, "there is no text at 'question_id'"),
        ({"question_id": 1, "text": None}, "there is no text at 'text', but 'None'"),
        ({"question_id": True, "text": "yes"}, "there is no text at 'question_id'"),
        ("yes", "this is no record"),
    ],
)
def test_a_record_that_is_no_answer_is_named(tmp_path, record, what):
    good = {"question_id": 0, "text": "no"}
    file = write(tmp_path / "a.jsonl", good, record)
    with pytest.raises(DataError, match=what) as error:
        read(file)
    assert error.value.where == f"{file}, line 2"


def test_matches_by_id_in_the_order_of_the_questions_and_counts_what_does_not_fit(caplog):
    questions = [question(key) for key in ("a", "b", "c")]
    matched = match(questions, Given("answers.jsonl", {"c": "3", "a": "1", "z": "9"}, ["a"]))
    assert [answer.text for answer in matched.answers] == ["1", "3"]
    assert matched.counts == {
        "questions": 3,
        "answered": 2,
        "questions without an answer": 1,
        "answers to unknown questions": 1,
        "questions answered twice, the last counts": 1,
    }
    assert "answers.jsonl: 1 questions without an answer: 'b'" in caplog.text
    assert "1 answers to unknown questions: 'z'" in caplog.text


def test_answers_to_a_few_other_words_are_counted(tmp_path, caplog):
    asked = ["is there a dog?", "Is there a cat?\nAnswer with a word.", "Is there a cow?", None]
    asked += ["Is there a bus?"] * 7
    records = [
        {"question_id": n, "text": "yes"} | ({"prompt": prompt} if prompt else {})
        for n, prompt in enumerate(asked)
    ]
    names = ["dog", "cat", "sheep", "horse", *["bus"] * 7]
    questions = [about(str(n), name) for n, name in enumerate(names)]
    matched = match(questions, read(write(tmp_path / "a.jsonl", *records)))
    assert matched.counts["answers whose prompt asks something else"] == 1
    assert "1 answers whose prompt asks something else: '2'" in caplog.text
    assert len(matched.answers) == 11


def about(key, name):
    return replace(question(key), meta={"id": key, "question": f"Is there a {name}?"})


def test_answers_of_another_split_with_the_same_ids_are_refused():
    given = Given("popular.jsonl", {"1": "yes", "2": "no"}, prompts={"2": "Is there a cow?"})
    with pytest.raises(DataError, match="1 of its 2 answers are to other questions") as error:
        match([about("1", "dog"), about("2", "cat")], given)
    assert "'2' asks 'Is there a cat?', its answer was given to 'Is there a cow?'" in str(
        error.value
    )


def test_a_part_of_answers_or_of_questions_will_do_but_not_of_both():
    some = dict.fromkeys("abc", "yes")
    assert len(match([question(key) for key in "c"], Given("a", some)).answers) == 1
    assert len(match([question(key) for key in "abcdefghi"], Given("a", some)).answers) == 3
    with pytest.raises(DataError, match="1 of its 3 answers belongs to one of the 7 questions"):
        match([question(key) for key in "cdefghi"], Given("a", some))


def test_questions_given_as_answers_are_refused():
    asked = replace(question("a"), meta={"id": "a", "question": "Is there a dog?"})
    with pytest.raises(DataError, match="these are the questions"):
        match([asked], Given("pope.json", {"a": "Is there a dog?"}))


def test_a_complete_match_counts_nothing_else(caplog):
    matched = match([question("a")], Given("answers.jsonl", {"a": "1"}))
    assert matched.counts == {"questions": 1, "answered": 1}
    assert not caplog.text


def test_a_file_without_answers_is_refused():
    with pytest.raises(DataError, match="there are no answers in this file"):
        match([question("a")], Given("answers.jsonl", {}))


def test_ids_are_quoted_in_part_however_long_they_are():
    with pytest.raises(DataError) as error:
        match([question("a")], Given("answers.jsonl", {"n" * 10**5: "1"}))
    assert len(str(error.value)) < 500


def test_answers_of_another_benchmark_are_refused():
    with pytest.raises(DataError, match="none of its 1 answers belongs to one of the 1") as error:
        match([question("a")], Given("answers.jsonl", {"n99": "1"}))
    assert "'n99'" in str(error.value)
