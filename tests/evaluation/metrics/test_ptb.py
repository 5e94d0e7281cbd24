import unicodedata
from random import Random

import pytest

from locvlm.errors import ConfigError
from locvlm.evaluation.metrics import java
from locvlm.evaluation.metrics.ptb import LONGEST, one_line, plain_words, ptb_words

HOSTILE = [
    *("", " ", "\n", "\r\n", "\x00", "\x85", "\u2028", "\u2029", "\x0b\x0c\x1c", "\x1b[31m"),
    *("|||", "a ||| b", "||||", "EVAL ||| 1", "\ud800", "\ufeff", "\u202e", "\u200b", "\U0001f600"),
    *("<s>", "</s><!--", "<?xml", "&amp;", "U.S.", "a.m.", "1 1/2", "\xa0", "...", '"', "''"),
    *("naïve café", "中文", "x" * 100_000, "a " * 50_000, "1," * 50_000, "'" * 100_000),
]


@pytest.mark.usefixtures("java_programs")
def test_splits_as_the_official_tokenizer_does():
    texts = ["A dog isn't here, is it?", "Two 'old' U.S. cars (red) -- parked...", "Größe 1/2"]
    assert ptb_words(texts) == [
        "a dog is n't here is it",
        "two old u.s. cars -lrb- red -rrb- parked",  # the program misses lower-case brackets
        "größe 1/2",
    ]


@pytest.mark.usefixtures("java_programs")
def test_every_text_keeps_its_place_whatever_it_holds():
    rng = Random(0)
    texts = [
        *HOSTILE,
        *("".join(rng.choices([*HOSTILE[:-4], "word", " "], k=5)) for _ in range(3000)),
        *("".join(chr(rng.randrange(0x110000)) for _ in range(5)) for _ in range(3000)),
    ]
    marked = [f"k{n} {text[: LONGEST // 2]} e{n}" for n, text in enumerate(texts)]
    for n, line in enumerate(ptb_words(marked)):
        assert line.split()[0] == f"k{n}"
        assert line.split()[-1] == f"e{n}"
    lines = ptb_words(texts)
    assert len(lines) == len(texts)
    assert lines[:6] == [""] * 6
    assert not any(unicodedata.category(sign) == "Cc" for line in lines for sign in line)


@pytest.mark.usefixtures("java_programs")
def test_the_first_and_the_last_text_may_be_empty():
    assert ptb_words(["", "a", ""]) == ["", "a", ""]
    assert ptb_words([""]) == [""]
    assert ptb_words([]) == []


def test_plain_words_need_no_java():
    assert plain_words(["A dog's ball -- red!", "|||", "U.S."]) == ["a dog's ball red", "", "u s"]


def test_endless_text_is_cut():
    assert len(one_line("x" * 100_000)) == LONGEST


@pytest.mark.parametrize(
    ("absent", "message"),
    [("which", "Java 8 or later"), ("find_spec", r"pip install 'locvlm\[eval\]'")],
)
def test_says_what_to_install_and_what_goes_without(monkeypatch, absent, message):
    monkeypatch.setattr(java, absent, lambda name: None)
    with pytest.raises(ConfigError, match=message) as error:
        ptb_words(["a"])
    assert "tokenizer=plain" in str(error.value)
    assert "cider_plain" in str(error.value)


@pytest.mark.usefixtures("java_programs")
def test_a_program_that_fails_says_why():
    with pytest.raises(java.LocVLMError, match="NoSuchProgram"):
        java.run(["-cp", ".", "NoSuchProgram"], "")
