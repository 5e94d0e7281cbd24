import json
import threading
from collections import Counter

import pytest

from locvlm.errors import ConfigError, DataError
from locvlm.predictors.ask import ask
from locvlm.predictors.recorded import Recorded
from locvlm.predictors.shares import (
    Share,
    ask_share,
    ask_together,
    forget,
    merge,
    share_files,
    to_share,
)
from locvlm.types import Message, Question, Sample

PHOTOS = [Sample(f"{n}", "test", image=b"%d" % n, size=(10, 10)) for n in range(7)]
QUESTIONS = [
    Question(f"{n} {text}", photo, (Message("user", (text,)),), candidates)
    for text, candidates in [("A?", ()), ("B?", ("x", "y")), ("C?", ())]
    for n, photo in enumerate(PHOTOS)
]


class Asked:
    """Notes what it is asked; knows all answers but those to `unknown`."""

    def __init__(self, name="one", unknown=()):
        self.name, self.identity, self.decode = name, {"kind": "test", "name": name}, None
        self.unknown, self.asked = unknown, []

    def answer(self, questions):
        for question in questions:
            if question.key in self.unknown:
                raise DataError(f"no answer to {question.key}")
            self.asked.append(question.key)
            yield f"answer to {question.key}"

    def score(self, questions):
        for question in questions:
            self.asked.append(question.key)
            yield [-2.0, -1.0]


def whole(folder, questions=QUESTIONS):
    """The file of one process, and its answers."""
    file = folder / "whole" / "answers.jsonl"
    answers = ask(questions, Asked(), file)
    return file.read_bytes(), answers


@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_shares_make_the_same_file_as_one_process(tmp_path, count):
    file = tmp_path / "answers.jsonl"
    askers = [Asked() for _ in range(count)]
    for index in reversed(range(count)):
        ask_share(QUESTIONS, askers[index], file, Share(index, count))
    assert Counter(key for asker in askers for key in asker.asked) == Counter(
        question.key for question in QUESTIONS
    )
    merge(QUESTIONS, Asked(), file)
    expected, answers = whole(tmp_path)
    assert file.read_bytes() == expected
    assert share_files(file) == []
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl", "whole"]
    late = Asked()
    assert ask(QUESTIONS, late, file) == answers
    assert late.asked == []


def test_questions_about_one_image_are_in_one_share_and_shares_are_alike_in_size(tmp_path):
    askers = [Asked() for _ in range(3)]
    for index, asker in enumerate(askers):
        ask_share(QUESTIONS, asker, tmp_path / "answers.jsonl", Share(index, 3))
    images = [{key.split()[0] for key in asker.asked} for asker in askers]
    assert images == [{"0", "3", "6"}, {"1", "4"}, {"2", "5"}]


def test_questions_without_an_image_are_spread(tmp_path):
    texts = [Question(str(n), Sample("", "test"), (Message("user", (str(n),)),)) for n in range(6)]
    asker = Asked()
    ask_share(texts, asker, tmp_path / "answers.jsonl", Share(1, 3))
    assert asker.asked == ["1", "4"]


def test_equal_questions_are_asked_in_one_share_only(tmp_path):
    twin = Sample("twin", "test", image=b"0", size=(10, 10))  # the same picture, read twice
    questions = [QUESTIONS[0], Question("twin", twin, QUESTIONS[0].messages)]
    askers = [Asked(), Asked()]
    for index in (1, 0):
        ask_share(questions, askers[index], tmp_path / "answers.jsonl", Share(index, 2))
    assert [asker.asked for asker in askers] == [["0 A?"], []]


def test_another_number_of_processes_goes_on_where_the_first_stopped(tmp_path):
    file = tmp_path / "answers.jsonl"
    broken = [Asked(unknown=["4 C?"]), Asked(unknown=["3 A?"])]
    for index, asker in enumerate(broken):
        with pytest.raises(DataError, match="no answer"):
            ask_share(QUESTIONS, asker, file, Share(index, 2))
    [torn, _] = share_files(file)
    torn.write_bytes(torn.read_bytes()[:-9])
    again = [Asked() for _ in range(3)]
    for index, asker in enumerate(again):
        ask_share(QUESTIONS, asker, file, Share(index, 3))
    done = Counter(key for asker in broken + again for key in asker.asked)
    assert sorted(done) == sorted(question.key for question in QUESTIONS)
    assert sorted(done.values())[-2:] == [1, 2]  # only the torn line was asked again
    merge(QUESTIONS, Asked(), file)
    assert file.read_bytes() == whole(tmp_path)[0]


def test_one_process_takes_over_what_shares_have_answered(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask_share(QUESTIONS, Asked(), file, Share(1, 2))
    alone = Asked()
    answers = ask_together(QUESTIONS, alone, file)
    assert {key.split()[0] for key in alone.asked} == {"0", "2", "4", "6"}
    assert answers == whole(tmp_path)[1]


def test_answers_to_other_questions_stay(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask(QUESTIONS[:3], Asked(), file)
    for index in range(2):
        ask_share(QUESTIONS[3:], Asked(), file, Share(index, 2))
    merge(QUESTIONS[3:], Asked(), file)
    keys = [json.loads(line).get("key") for line in file.read_text().splitlines()]
    assert keys == [None, *(question.key for question in QUESTIONS)]


def test_the_first_process_waits_for_the_others_and_tells_of_all_answers(tmp_path):
    file, told = tmp_path / "answers.jsonl", []
    other = threading.Thread(
        target=ask_share, args=(QUESTIONS, Asked(), file, Share(1, 2)), daemon=True
    )
    started = threading.Event()

    def running():
        if not started.is_set():
            started.set()
            other.start()
        return other.is_alive()

    first = Asked()
    answers = ask_together(
        QUESTIONS, first, file, count=2, running=running, on_progress=told.append
    )
    assert answers == whole(tmp_path)[1]
    assert len(first.asked) == 12
    assert told[-1] == len(QUESTIONS)


def test_the_first_process_stops_where_another_has_failed(tmp_path):
    def running():
        raise DataError("process 2 of 2 failed")

    with pytest.raises(DataError, match="process 2 of 2 failed"):
        ask_together(QUESTIONS, Asked(), tmp_path / "answers.jsonl", count=2, running=running)


def test_a_surrogate_is_kept(tmp_path):
    file = tmp_path / "answers.jsonl"
    half = Recorded("me", None, {QUESTIONS[0].key: "half a \ud83d"})
    ask_share(QUESTIONS[:1], half, file, Share(0, 2))
    assert ask_together(QUESTIONS[:1], half, file)[0].text == "half a \ud83d"


def test_another_model_is_refused_in_every_file(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask_share(QUESTIONS, Asked("one"), file, Share(0, 2))
    for call in (
        lambda: ask_share(QUESTIONS, Asked("two"), file, Share(1, 2)),
        lambda: merge(QUESTIONS, Asked("two"), file),
    ):
        with pytest.raises(DataError, match="another model") as error:
            call()
        assert "answers.0-of-2.jsonl" in str(error.value)


def test_all_answers_are_forgotten_together(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask(QUESTIONS[:1], Asked(), file)
    ask_share(QUESTIONS, Asked(), file, Share(0, 2))
    (tmp_path / "items.jsonl").touch()
    forget(file)
    assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


def test_a_share_is_read():
    assert to_share("0/1") == Share(0, 1)
    assert to_share("7/8") == Share(7, 8)


@pytest.mark.parametrize("text", ["", "4/4", "1", "1/0", "-1/4", "a/b", "1/4/8", "1 / 4", "٠/٤"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="no share of the questions"):
        to_share(text)
