import pytest

from locvlm.evaluation.metrics.captions import bare_description, names_only


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("There is a red circle.", "red circle"),
        ("there is an  Orange ring .", "orange ring"),
        ("The dog", "dog"),
        ("a", "a"),
        ("", ""),
    ],
)
def test_the_frame_of_a_description_is_taken_off(text, expected):
    assert bare_description(text) == expected


def test_only_the_category_itself_counts():
    categories = ["dog", "hot dog", "cat"]
    assert names_only("There is a Dog.", "dog", categories)
    assert names_only("a hot dog", "hot dog", categories)
    assert not names_only("a hot dog", "dog", categories)
    assert not names_only("a dog and a cat", "dog", categories)
    assert not names_only("dogma", "dog", categories)
    assert not names_only("", "dog", categories)


def test_names_with_signs_of_regular_expressions_are_plain_text():
    assert names_only("a c++ (book).", "c++ (book)", ["c++ (book)", "x"])
