import pytest

from locvlm.text import article, said_once


@pytest.mark.parametrize("name", ["apple", "elephant", "ice skate", "orange ring", "umbrella"])
def test_an_stands_before_vowels(name):
    assert article(name) == article(name.capitalize()) == "an"


@pytest.mark.parametrize("name", ["star", "yellow cross", "8-ball", "école", ""])
def test_a_stands_before_all_else(name):
    assert article(name) == "a"


def test_what_is_said_of_two_objects_is_not_unique():
    assert said_once([["left cat", "cat"], ["Cat"], ["dog"]]) == {"left cat", "dog"}


def test_what_is_said_twice_of_one_object_is_unique():
    assert said_once([["Cat", "cat"]]) == {"Cat", "cat"}
