import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.errors import ConfigError
from locvlm.templates import fill
from locvlm.types import Box


def test_keeps_locations_apart_from_text():
    box = Box(1, 2, 3, 4)
    assert fill("It is located at {location}.", location=box) == ("It is located at ", box, ".")


def test_joins_adjacent_text():
    assert fill("a {x}{y} c", x="b", y="!") == ("a b! c",)


@given(st.text())
def test_leaves_braces_of_a_field_alone(caption):
    assert "".join(fill("<{caption}>", caption=caption)) == f"<{caption}>"


def test_names_the_field_that_is_missing():
    with pytest.raises(ConfigError, match=r"\{category\}.*\n.*\n.*\{location\}"):
        fill("Where is {category}?", location="here")
