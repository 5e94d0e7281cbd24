import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.readers.phrases import description_of


@pytest.mark.parametrize(
    ("phrase", "description"),
    [
        ("The clock is green in colour.", "clock that is green in colour"),
        ("the man is wearing a hat", "man that is wearing a hat"),
        ("two cats are asleep", "two cats that are asleep"),
        ("a man  in red", "man in red"),
        ("An orange", "orange"),
        ("theatre on left", "theatre on left"),
        ("man that is tall", "man that is tall"),
        ("the one who is tall", "one who is tall"),
        ("it is a dog", "it is a dog"),
        ("left", "left"),
        (" . ", ""),
        ("left cat . .", "left cat"),
        ("the", "the"),
    ],
)
def test_phrases_take_the_form_of_the_papers_descriptions(phrase, description):
    assert description_of(phrase) == description


@given(st.text(max_size=40))
def test_a_description_keeps_nothing_that_a_template_brings(phrase):
    description = description_of(phrase)
    assert description == description.strip()
    assert not description.endswith(".")
    assert "  " not in description
