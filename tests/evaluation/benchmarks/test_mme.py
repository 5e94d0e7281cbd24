import json

import pytest

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.mme import Mme
from tests.evaluation.conftest import answered, values

LINES = [
    ("a.jpg", "Is there a cat? Please answer yes or no.", "Yes"),
    ("a.jpg", "Is there a dog? Please answer yes or no.", "No"),
    ("b.jpg", "Is there a cup? Please answer yes or no.", "Yes"),
    ("b.jpg", "Is there a car? Please answer yes or no.", "No"),
]


def write(folder, lines, name="position.txt", end="\n"):
    file = folder / name
    file.write_bytes("".join("\t".join(line) + end for line in lines).encode())
    return file


@pytest.fixture
def mme(tmp_path):
    return Mme(write(tmp_path, LINES))


def score(mme, *texts):
    asked = mme.questions()[: len(texts)]
    said = dict(zip([question.key for question in asked], texts, strict=True))
    return mme.score(answered(asked, lambda question: said[question.key]), None)


def test_equals_the_official_figures_of_real_answers(real_data):
    file = real_data / "mme" / "existence.txt"
    mme = Mme(file)
    found = mme.score(match(mme.questions(), mme.read_answers(file)).answers, None)
    expected = json.loads((real_data / "expected" / "expected.json").read_text())
    official = expected["mme_existence"]
    assert mme.figures(found) == {
        "accuracy": official["acc"],
        "accuracy_plus": official["acc_plus"],
        "score": official["score"],
    }
    assert len(found.items) == official["questions"]


def test_both_questions_of_an_image_must_be_right_for_accuracy_plus(mme):
    found = score(mme, "Yes", "No.", "yes, there is", "Yes")
    assert mme.figures(found) == {"accuracy": 75, "accuracy_plus": 50, "score": 125}
    assert values(found)["mme.score"] == 125 / 200
    assert [item.outcome for item in found.items] == ["right", "right", "right", "false yes"]


def test_an_answer_that_says_neither_is_wrong_and_counted(mme):
    found = score(mme, "Maybe", "I do not know", "Yes", "no")
    assert mme.figures(found) == {"accuracy": 50, "accuracy_plus": 50, "score": 100}
    assert values(found)["mme.parse_failures"] == 0.5
    assert found.items[0].outcome == found.items[0].said == "neither"


def test_an_image_with_one_answer_alone_is_left_out(mme):
    found = score(mme, "Yes", "No", "Yes")
    assert mme.figures(found)["score"] == 200
    assert len(found.items) == 2
    assert found.counts["left out: the other question of the image has no answer"] == 1


def test_the_submission_is_what_the_official_program_reads(mme, tmp_path):
    answers = answered(mme.questions(), lambda question: "Yes,\tit\nis\r")
    sent = mme.submission(answers)
    assert sent.name == "position.txt"
    assert sent.text.splitlines()[1] == "\t".join((*LINES[1], "Yes, it is "))
    file = tmp_path / "again.txt"
    file.write_text(sent.text)
    again = Mme(file)
    found = again.score(match(again.questions(), again.read_answers(file)).answers, None)
    assert mme.figures(found) == {"accuracy": 50, "accuracy_plus": 0, "score": 50}


def test_the_submission_holds_whole_pairs_alone(mme):
    three = answered(mme.questions()[:3], lambda question: "Yes")
    assert len(mme.submission(three).text.splitlines()) == 2


def test_asks_with_the_images_of_the_first_column(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    mme = Mme(write(tmp_path, LINES), images=tmp_path, prompt="{question} One word.")
    question = mme.questions()[0]
    assert question.image == str(tmp_path / "a.jpg")
    assert question.messages[-1].parts == (f"{LINES[0][1]} One word.",)


@pytest.mark.parametrize("end", ["\r\n", "\n\n", "\n"])
def test_line_ends_and_empty_lines_do_not_matter(tmp_path, end):
    file = write(tmp_path, [(*line, line[2]) for line in LINES], end=end)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # nor does a mark of Windows
    mme = Mme(file)
    assert mme.questions()[0].sample.key == "a.jpg"
    assert mme.figures(score(mme, *mme.read_answers(file).texts.values()))["score"] == 200


def test_an_answer_may_hold_tabs(tmp_path):
    file = write(tmp_path, [(*line, "No\t\tno") for line in LINES])
    assert set(Mme(file).read_answers(file).texts.values()) == {"No\t\tno"}


@pytest.mark.parametrize(
    ("lines", "message", "where"),
    [
        ([*LINES, ("c.jpg", "Is it?")], "no line of MME", ", line 5"),
        ([*LINES, ("c.jpg", "Is it?", "maybe")], "no line of MME", ", line 5"),
        (LINES[:3], "3 lines, which makes no pairs", ""),
        ([LINES[0], *LINES[2:], LINES[1]], "about 'b.jpg' and the one before about 'a", ", line 2"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(tmp_path, lines, message, where):
    file = write(tmp_path, lines)
    with pytest.raises(DataError, match=message) as error:
        Mme(file)
    assert error.value.where == f"{file}{where}"


def test_a_question_answered_twice_is_named(tmp_path):
    lines = [(*line, line[2]) for line in LINES]
    file = write(tmp_path, [*lines, (*lines[0][:3], "No"), lines[1]])
    given = Mme(file).read_answers(file)
    assert given.repeated == [f"a.jpg: {LINES[0][1]}"]
    assert given.texts[given.repeated[0]] == "No"


def test_answers_need_the_fourth_column(mme):
    with pytest.raises(DataError, match="no answer in this line"):
        mme.read_answers(mme.files[0])


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        Mme(tmp_path / "gone.txt")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match="not UTF-8"):
        Mme(tmp_path / "photo.jpg")


def test_to_ask_it_needs_its_questions():
    with pytest.raises(ConfigError, match="MME needs the questions"):
        Mme(None)
