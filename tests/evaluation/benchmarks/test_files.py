import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.files import Entry, to_questions
from locvlm.types import Message


def entry(key, image="a.jpg"):
    return Entry(key, image, ("What?",), {"gold": "cat"})


def ask(*entries, images=None):
    return to_questions("quiz", entries, source="quiz.json", images=images)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"any")
    return tmp_path


def test_questions_about_one_image_share_its_sample(folder):
    first, second = ask(entry("1"), entry("2"), images=folder).questions
    assert first.sample is second.sample
    assert first.key == "quiz/1"
    assert first.meta == {"id": "1", "gold": "cat"}
    assert first.image == str(folder / "a.jpg")


def test_each_view_of_an_image_is_a_sample_of_its_own(folder):
    seen = [entry("1"), entry("2")._replace(view="grey"), entry("3")._replace(view="grey")]
    plain, grey, again = ask(*seen, images=folder).questions
    assert grey.sample is again.sample is not plain.sample
    assert (plain.sample.key, grey.sample.key) == ("a.jpg", "a.jpg, grey")
    assert (plain.view, grey.view) == ("", "grey")
    assert grey.image == plain.image


def test_a_question_comes_after_its_conversation_with_its_candidates():
    before = (Message("user", ("Where?",)), Message("assistant", ("Here.",)))
    (question,) = ask(entry("1")._replace(before=before, candidates=("a", "b"))).questions
    assert question.messages == (*before, Message("user", ("What?",)))
    assert question.candidates == ("a", "b")


def test_scoring_needs_no_images():
    asked = ask(entry("1", "gone.jpg"))
    assert asked.questions[0].image == ""
    assert not asked.left_out


def test_absent_images_are_named_and_counted(folder, caplog):
    asked = ask(entry("1"), entry("2", "gone.jpg"), entry("3", "gone.jpg"), images=folder)
    assert [question.meta["id"] for question in asked.questions] == ["1"]
    assert asked.left_out == {"left out: image absent": 2}
    assert "2 questions left out, image absent: gone.jpg" in caplog.text


def test_the_first_question_of_an_id_counts(caplog):
    asked = ask(entry("1"), entry("1", "b.jpg"))
    assert [question.sample.key for question in asked.questions] == ["a.jpg"]
    assert asked.left_out == {"left out: id that came before": 1}


def test_a_file_without_a_question_is_refused():
    with pytest.raises(DataError, match="no question in this file"):
        ask()


def test_a_folder_without_any_of_the_images_is_refused(folder):
    with pytest.raises(DataError, match="not one of the 1 images is in"):
        ask(entry("1", "gone.jpg"), images=folder)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd"])
def test_a_name_that_leaves_the_folder_is_refused(folder, name):
    with pytest.raises(DataError, match="leaves the folder of images"):
        ask(entry("1", name), images=folder)
