import io
import json
from dataclasses import replace

import pytest
from PIL import Image

from locvlm.errors import DataError
from locvlm.predictors.ask import ask, fingerprints, loaded
from locvlm.predictors.recorded import Recorded
from locvlm.types import Box, Message, Question, Sample

SAMPLE = Sample("photo", "test", image=b"pixels", size=(10, 10))


def free(key, text="Where is it?", sample=SAMPLE):
    return Question(key, sample, (Message("user", (text,)),))


def closed(key, text="Which side?"):
    return Question(key, SAMPLE, (Message("user", (text,)),), ("left.", "right."))


class Counting:
    """A recorded predictor that notes every question that it is asked."""

    def __init__(self, recorded):
        self.recorded = recorded
        self.identity = recorded.identity
        self.score = recorded.score
        self.asked = []

    def answer(self, questions):
        self.asked.extend(question.key for question in questions)
        return self.recorded.answer(questions)


def predictor(name="someone", **answers):
    likelihoods = {"side": [-2.0, -1.5]}
    return Counting(Recorded(name, read=None, answers=answers, likelihoods=likelihoods))


def test_free_questions_get_text_and_closed_ones_their_likeliest_candidate(tmp_path):
    answers = ask([free("a"), closed("side")], predictor(a="here"), tmp_path / "answers.jsonl")
    assert [answer.text for answer in answers] == ["here", "right."]
    assert [answer.likelihoods for answer in answers] == [(), (-2.0, -1.5)]


def test_a_second_run_asks_nothing(tmp_path):
    file = tmp_path / "answers.jsonl"
    first = ask([free("a"), closed("side")], predictor(a="here"), file)
    again = predictor()
    assert ask([free("a"), closed("side")], again, file) == first
    assert again.asked == []


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "answers.jsonl"
    questions = [free(key, text=f"Where is {key}?") for key in "abcd"]
    with pytest.raises(DataError, match="1 of 1 questions have no recorded answer, such as 'c'"):
        ask(questions, predictor(a="1", b="2"), file, chunk=1)
    second = predictor(a="x", b="x", c="3", d="4")
    assert [answer.text for answer in ask(questions, second, file)] == ["1", "2", "3", "4"]
    assert second.asked == ["c", "d"]


def test_what_was_answered_before_an_error_is_kept(tmp_path):
    class Breaking(Counting):
        def answer(self, questions):
            for question in questions:
                yield self.recorded.answers[question.key]

    file = tmp_path / "answers.jsonl"
    questions = [free(key, text=f"Where is {key}?") for key in "abcd"]
    with pytest.raises(KeyError):
        ask(questions, Breaking(predictor(a="1", b="2").recorded), file)
    second = predictor(c="3", d="4")
    assert [answer.text for answer in ask(questions, second, file)] == ["1", "2", "3", "4"]


def test_answers_stand_in_the_order_of_the_questions(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask([closed("side"), free("a"), closed("side", "Where?")], predictor(a="here"), file)
    assert [json.loads(line).get("key") for line in file.read_text().splitlines()] == [
        *(None, "side", "a", "side")
    ]


def test_a_line_that_a_crash_cut_short_is_asked_again(tmp_path):
    file = tmp_path / "answers.jsonl"
    questions = [free("a", "A?"), free("b", "B?")]
    ask(questions, predictor(a="1", b="2"), file)
    file.write_bytes(file.read_bytes()[:-5])
    second = predictor(b="2")
    assert [answer.text for answer in ask(questions, second, file)] == ["1", "2"]
    assert second.asked == ["b"]


def test_equal_questions_are_asked_once(tmp_path):
    asker = predictor(a="here", b="there")
    answers = ask([free("a"), free("b")], asker, tmp_path / "answers.jsonl")
    assert [answer.text for answer in answers] == ["here", "here"]
    assert [answer.question.key for answer in answers] == ["a", "b"]
    assert asker.asked == ["a"]


def test_progress_counts_questions_with_an_answer(tmp_path):
    seen = []
    questions = [free(key, text=f"Where is {key}?") for key in "abc"]
    everyone = predictor(a="1", b="2", c="3")
    ask(questions, everyone, tmp_path / "answers.jsonl", chunk=2, on_progress=seen.append)
    assert seen == [0, 2, 3]


def test_equal_questions_of_a_first_run_do_not_count_as_answered(tmp_path, caplog):
    seen = []
    with caplog.at_level("INFO"):
        ask(
            [free("a"), free("b")],
            predictor(a="here"),
            tmp_path / "answers.jsonl",
            on_progress=seen.append,
        )
    assert seen == [0, 2]
    assert "2 questions, 0 answered before" in caplog.text


def test_refuses_the_answers_of_another_predictor_and_says_the_way_out(tmp_path):
    file = tmp_path / "answers.jsonl"
    ask([free("a")], predictor("one", a="here"), file)
    with pytest.raises(DataError, match="another model, or with other settings: name") as error:
        ask([free("a")], predictor("two", a="here"), file)
    assert "fresh=true" in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("header", ['{"text": "no header"}', "[1]", '"words"', '{"predictor": 3}'])
def test_refuses_a_file_that_holds_something_else(tmp_path, header):
    file = tmp_path / "answers.jsonl"
    file.write_text(header + "\n")
    with pytest.raises(DataError, match="this is no file of answers"):
        ask([free("a")], predictor(a="here"), file)


@pytest.mark.parametrize("line", ["[]", '{"question": "x"}'])
def test_names_a_line_that_is_no_answer(tmp_path, line):
    file = tmp_path / "answers.jsonl"
    ask([free("a")], predictor(a="here"), file)
    with file.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match="this line is no answer") as error:
        ask([free("a")], predictor(a="here"), file)
    assert "line 3" in str(error.value)


def test_an_empty_file_is_begun_anew(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.touch()
    ask([free("a")], predictor(a="here"), file)
    header, line = map(json.loads, file.read_text().splitlines())
    assert header["predictor"] == {"kind": "recorded", "name": "someone"}
    assert (line["key"], line["text"]) == ("a", "here")


def test_any_text_is_kept_as_it_is(tmp_path):
    file = tmp_path / "answers.jsonl"
    text = 'a "b"\n\u2028 </script> é 🙂 \x00'
    ask([free("a")], predictor(a=text), file)
    assert ask([free("a")], predictor(), file)[0].text == text


def test_fingerprints_tell_images_words_places_and_candidates_apart():
    other = Sample("photo", "test", image=b"other pixels", size=(10, 10))
    placed = Question("a", SAMPLE, (Message("user", ("At ", Box(1, 2, 3, 4))),))
    moved = Question("a", SAMPLE, (Message("user", ("At ", Box(1, 2, 3, 5))),))
    texts = Question("a", Sample("words", "test"), (Message("user", ("Where is it?",)),))
    questions = [free("a"), free("a", "?"), free("a", sample=other), closed("a"), placed, moved]
    assert len(set(fingerprints([*questions, texts]))) == 7
    assert len(set(fingerprints([free("a"), free("b")]))) == 1


def test_images_are_read_from_their_files_when_they_are_asked_about(tmp_path):
    file = tmp_path / "photo.png"
    Image.new("RGB", (20, 10)).save(file)
    about = Sample("photo", "by hand")
    questions = [
        Question(f"quiz/{n}", about, (Message("user", (f"{n}?",)),), image=str(file))
        for n in range(2)
    ]
    first, second = loaded(questions)
    assert first.sample is second.sample
    assert first.sample.image == file.read_bytes()
    assert first.sample.size == (20, 10)
    assert questions[0].sample.image is None
    before = fingerprints(questions)
    assert before == fingerprints([first, second])
    Image.new("RGB", (20, 11)).save(file)
    assert not set(before) & set(fingerprints(questions))


def test_a_missing_image_is_named(tmp_path):
    question = Question("quiz/1", Sample("a", "by hand"), (Message("user", ("?",)),), image="gone")
    with pytest.raises(DataError, match="gone"):
        loaded([question])


def test_views_are_made_when_they_are_asked_about(tmp_path):
    file = tmp_path / "photo.png"
    picture = Image.new("RGB", (20, 10))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.save(file)
    about = Sample("photo", "by hand")
    asked = Question("quiz/1", about, (Message("user", ("?",)),), image=str(file))
    held = replace(loaded([asked])[0], view="mirrored")
    views = [replace(asked, view=view) for view in ("", "mirrored", "grey")]
    shown = [Image.open(io.BytesIO(q.sample.image)) for q in loaded([*views, held])]
    assert [image.getpixel((19, 0))[0] for image in shown] == [0, 255, 128, 255]
    assert {image.size for image in shown} == {(20, 10)}
    assert len(set(fingerprints(views))) == 3
    assert {question.view for question in loaded(views)} == {""}
