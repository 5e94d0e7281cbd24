import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data import Quarantine
from locvlm.data.readers.fields import (
    by_id,
    category_names,
    check_given,
    check_size,
    read_box,
    read_id,
    read_list,
    read_text,
    shown,
)
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box
from tests.data.readers.fuzz import JSON

SIZE = (40, 30)
SIDE = st.floats(-1e6, 1e6)


def test_a_box_becomes_corners():
    assert read_box([2, 3, 10, 5], SIZE, "here") == Box(2, 3, 12, 8)
    assert read_box((2.5, 3, 10, 5), SIZE, "here") == Box(2.5, 3, 12.5, 8)


def test_a_box_that_leaves_its_image_is_clipped():
    assert read_box([-5, 20, 50, 50], SIZE, "here") == Box(0, 20, 40, 30)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([50, 3, 10, 5], "box outside its image"),
        ([2, 3, 0, 5], "box without area"),
        ([2, 3, -1, 5], "box without area"),
        ([2, 3, 10, -1], "box without area"),
        ([2, 3, 10, 5, "x"], "box without four numbers"),
        ([2, 3, 10], "box without four numbers"),
        ([2, 3, 10, 5, 6], "box without four numbers"),
        ([2, 3, float("nan"), 5], "box without four numbers"),
        ([2, 3, float("inf"), 5], "box without four numbers"),
        ([2, 3, 10**400, 5], "box without four numbers"),
        ([2, 3, True, 5], "box without four numbers"),
        (["2", "3", "10", "5"], "box without four numbers"),
        ("1234", "box without four numbers"),
        ({"x": 1}, "box without four numbers"),
        (None, "box without four numbers"),
    ],
)
def test_what_is_no_box_is_named(values, reason):
    with pytest.raises(DataError, match=reason) as error:
        read_box(values, SIZE, "annotation 7")
    assert error.value.where == "annotation 7"


@given(st.tuples(SIDE, SIDE, SIDE, SIDE))
def test_a_box_lies_in_its_image_and_has_area(values):
    try:
        box = read_box(values, SIZE, "here")
    except DataError:
        return
    assert 0 <= box.x1 < box.x2 <= 40
    assert 0 <= box.y1 < box.y2 <= 30


@given(JSON)
def test_nothing_but_a_data_error_comes_of_any_field(value):
    for read in (read_id, read_text, read_list):
        for record in (value, {"name": value}):
            try:
                read(record, "name", "here")
            except DataError as error:
                assert len(str(error)) < 1000
    try:
        read_box(value, SIZE, "here")
    except DataError as error:
        assert len(str(error)) < 1000


@pytest.mark.parametrize("value", [7, "n578564", "007"])
def test_an_id_is_a_whole_number_or_text(value):
    assert read_id({"id": value}, "id", "here") == value


@pytest.mark.parametrize("value", [True, 1.5, None, "", [1], {}, 10**30, "x" * 201])
def test_nothing_else_is_an_id(value):
    with pytest.raises(DataError, match="record without id"):
        read_id({"id": value}, "id", "here")


def test_text_has_no_space_around_it():
    assert read_text({"sent": " left cat\n"}, "sent", "here") == "left cat"


def test_endless_text_is_refused():
    with pytest.raises(DataError, match="too long: 10,001 characters"):
        read_text({"sent": "x" * 10_001}, "sent", "here")


def test_a_size_must_be_that_of_the_file():
    check_size({}, SIZE, "here")
    check_size({"width": 40, "height": 30.0}, SIZE, "here")
    with pytest.raises(DataError, match="image size differs"):
        check_size({"width": 30, "height": 40}, SIZE, "here")


def test_items_without_id_are_set_aside():
    quarantine = Quarantine()
    items = iter([{"id": 3}, 7, {"id": "b"}])
    found = list(by_id(items, "id", "a.json", quarantine))
    assert [(where, id_) for where, id_, _ in found] == [
        ("a.json, record 0", 3),
        ("a.json, record 2", "b"),
    ]
    assert [record["where"] for record in quarantine.records] == ["a.json, record 1"]


def test_categories_need_id_and_name():
    assert category_names(iter([{"id": 3, "name": "cat"}]), "a.json") == {3: "cat"}
    with pytest.raises(DataError, match="record without name"):
        category_names(iter([{"id": 3}]), "a.json")


def test_a_missing_file_is_asked_for():
    check_given("a.json", "a file", "regions", "add it")
    with pytest.raises(ConfigError, match="a file is needed") as error:
        check_given(None, "a file", "regions", "add it")
    assert (error.value.where, error.value.fix) == ("source.regions", "add it")


def test_deep_and_endless_values_are_shown_short():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) < 100
    assert len(shown("x" * 10**6)) < 100
