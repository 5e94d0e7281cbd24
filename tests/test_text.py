import pytest

from locvlm.text import article


@pytest.mark.parametrize("name", ["apple", "elephant", "ice skate", "orange ring", "umbrella"])
def test_an_stands_before_vowels(name):
    assert article(name) == article(name.capitalize()) == "an"


@pytest.mark.parametrize("name", ["star", "yellow cross", "8-ball", "école", ""])
def test_a_stands_before_all_else(name):
    assert article(name) == "a"
