import subprocess
import sys

import pytest
from PIL import Image

from locvlm.errors import ConfigError
from locvlm.predict import main, printable, to_message
from locvlm.types import Box, Point

FAST = ["--max-new-tokens", "4"]


@pytest.fixture
def photo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (60, 40), "grey").save("a photo (1).png")
    return "a photo (1).png"


def test_prints_the_answer_and_writes_the_picture_here(checkpoint, photo, tmp_path, capsys):
    main([str(checkpoint), photo, "Where's the man's hat, please?", *FAST])
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "picture: a photo (1)-answer.png"
    with Image.open(tmp_path / "a photo (1)-answer.png") as picture:
        assert picture.size == (420, 280)  # enlarged by 7


def test_a_box_in_pixels_asks_what_is_there_and_is_drawn(checkpoint, photo, tmp_path):
    main([str(checkpoint), photo, "--box", "10", "10", "50", "30", "--output", "b.jpg", *FAST])
    with Image.open(tmp_path / "b.jpg") as picture:
        red, green, blue = picture.convert("RGB").getpixel((200, 70))
    assert blue > green > red


def test_a_location_stands_where_the_question_says():
    box = Box(1, 2, 3, 4)
    assert to_message("What is at {location}?", box).parts == ("What is at ", box, "?")
    assert to_message("{location}", box).parts == (box,)
    assert to_message(None, Point(1, 2)).parts[1] == Point(1, 2)


def test_braces_of_a_user_are_plain_text():
    assert to_message("What is {x}?", None).parts == ("What is {x}?",)


@pytest.mark.parametrize(
    ("question", "location", "message"),
    [
        (None, None, "there is no question"),
        ("", None, "there is no question"),
        ("What is at {location}?", None, "none is given"),
        ("What is it?", Point(1, 2), "no place for the location"),
    ],
)
def test_questions_and_locations_must_fit(question, location, message):
    with pytest.raises(ConfigError, match=message):
        to_message(question, location)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "{photo}", "hi"], "no such folder"),
        (["{model}", "no.png", "hi"], "no.png"),
        (["{model}", "{photo}"], "there is no question"),
        (["{model}", "{photo}", "hi", "--output", "x.txt"], "no ending of a picture"),
        (["{model}", "{photo}", "hi", "--output", "{photo}"], "would replace the image"),
        (["{model}", "{photo}", "hi", "--temperature", "-1"], "temperature"),
        (["{model}", "{photo}", "hi", "--dtype", "int8"], "choose from bfloat16, float16"),
        (["{model}", "{photo}", "hi", "--max-new-tokens", "0"], "max_new_tokens must be"),
        (["{model}", "{photo}", "--point", "-1", "0"], "where: --point"),
        (["{model}", "{photo}", "--box", "3", "2", "1", "4"], "has no area\n  where: --box"),
    ],
)
def test_mistakes_get_one_message(checkpoint, photo, capsys, arguments, message):
    filled = [argument.format(model=checkpoint, photo=photo) for argument in arguments]
    with pytest.raises(SystemExit) as end:
        main(filled)
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_a_models_words_do_not_steer_the_terminal():
    assert printable("a \x1b[31mred\r dog\n\x07 é") == "a \ufffd[31mred\ufffd dog\n\ufffd é"


def test_help_waits_for_no_torch(tmp_path):
    code = "import sys, locvlm.predict; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
