import json
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm import json_stream
from locvlm.errors import DataError
from locvlm.json_stream import iter_json, iter_tables
from tests.test_io import JSON

COCO = {
    "info": {"categories": [{"id": 9}], "images": 3},
    "annotations": [{"id": 5, "bbox": [1, 2.5]}, {"id": 6}],
    "licenses": [],
    "images": [{"id": 1, "boxes": [7, 8]}, {"id": 2, "boxes": []}],
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.json"


@pytest.mark.parametrize(
    ("prefix", "items"),
    [
        ("annotations.item", COCO["annotations"]),
        ("images.item", COCO["images"]),
        ("licenses.item", []),
        ("images.item.boxes.item", [7, 8]),
        ("info.categories.item.id", [9]),
    ],
)
def test_a_prefix_says_which_list_is_read(path, prefix, items):
    path.write_text(json.dumps(COCO))
    assert list(iter_json(path, prefix)) == items


def test_a_file_that_is_a_list_is_read_whatever_its_layout(path):
    path.write_text(' [\r\n\t1 , "a,]" ,\n{"b":[2]}, null ] \n')
    assert list(iter_json(path, "item")) == [1, "a,]", {"b": [2]}, None]


def test_values_are_those_of_pythons_own_decoder(path):
    path.write_bytes(b'\xef\xbb\xbf[NaN, -Infinity, 1e999, 12345678901234567890, 1.0, "\\ud800"]')
    nan, *others = iter_json(path, "item")
    assert math.isnan(nan)
    assert others == [-math.inf, math.inf, 12345678901234567890, 1.0, "\ud800"]
    assert isinstance(others[3], float)


@given(st.lists(JSON, max_size=4), st.integers(1, 40), st.sampled_from([None, 1]))
def test_where_the_window_ends_makes_no_difference(tmp_path_factory, items, window, indent):
    path = tmp_path_factory.mktemp("stream") / "a.json"
    text = json.dumps({"other": items, "wanted": items}, indent=indent, ensure_ascii=False)
    path.write_bytes(text.encode("utf-8", "backslashreplace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_WINDOW", window)
        assert list(iter_json(path, "wanted.item")) == items


@pytest.mark.parametrize("window", [1, 7, 1 << 20])
def test_a_file_that_is_cut_anywhere_is_noticed(path, monkeypatch, window):
    monkeypatch.setattr(json_stream, "_WINDOW", window)
    text = json.dumps({"a": [1.5e-3, 'x\u00e9"', {"b": [True, None]}], "c": -12})
    for end in range(len(text)):
        path.write_text(text[:end])
        with pytest.raises(DataError, match="malformed JSON"):
            list(iter_json(path, "a.item"))


@pytest.mark.parametrize(
    ("content", "message", "place"),
    [
        (b"", "the file ends early", "line 1, column 1"),
        (b"words", "a list is needed here, found something else", "line 1, column 1"),
        (b'{"item": 1}', "a list is needed here, found an object", "line 1, column 1"),
        (b"[1,\n2", "malformed JSON: the file ends early", "line 2, column 2"),
        (b"[1,\n 2 3]", "Expecting ',' delimiter", "line 2, column 4"),
        (b"[1,, 2]", "malformed JSON: Expecting value", "line 1, column 4"),
        (b'[1,\n\n"ab', "Unterminated string", "line 3, column 1"),
        (b"[1] [2]", "malformed JSON: Extra data", "line 1, column 5"),
        (b'[1,\n"a\xff"]', "malformed JSON: not UTF-8", "line 2, column 3"),
        (b"[\n" + b"[" * 100_000, "nested too deeply", "line 2, column 1"),
        (b"[" + b"[" * 100_000 + b"]" * 99_999, "nested too deeply", "line 1, column 2"),
        (b"[" + b"1" * 5_000, "the file ends early", "line 1, column 5002"),
        (b"[" + b"1" * 5_000 + b" 2]", "Expecting ',' delimiter", "line 1, column 5003"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_column(path, content, message, place):
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(iter_json(path, "item"))
    assert error.value.where == f"{path}, {place}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": {}}', "a list is needed here, found an object"),
        ('{"image": []}', "no 'images' in the object that ends here"),
        ("[]", "an object is needed here, found a list"),
        ('{"images": [], 3: 4}', "Expecting property name"),
        ('{"images": [], "b" 4}', "Expecting ':' delimiter"),
    ],
)
def test_a_list_that_is_not_there_is_named(path, content, message):
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(iter_json(path, "images.item"))


def test_what_stands_behind_the_list_can_be_left_unread(path):
    path.write_text('{"a": 1, "images": [1, 2], "b": [x')
    assert list(iter_json(path, "images.item", whole=False)) == [1, 2]
    with pytest.raises(DataError, match="malformed JSON"):
        list(iter_json(path, "c.item", whole=False))


def test_one_pass_gives_the_items_of_several_lists_in_the_order_of_the_file(path):
    path.write_text(json.dumps(COCO))
    assert list(iter_tables(path, ["images", "annotations", "licenses"])) == [
        *(("annotations", item) for item in COCO["annotations"]),
        *(("images", item) for item in COCO["images"]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [1]}', "no 'annotations' in the object that ends here"),
        ('{"images": [1], "annotations": {}}', "a list is needed here, found an object"),
        ('{"images": [1], "annotations": []', "the file ends early"),
        ('{"images": [1], "annotations": []} 2', "Extra data"),
        ('{"images": [1], "annotations": [], "b": [}', "malformed JSON"),
    ],
)
def test_several_lists_are_checked_as_one_is(path, content, message):
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(iter_tables(path, ["images", "annotations"]))


def test_a_mistake_is_placed_in_the_file_not_in_the_window(path, monkeypatch):
    monkeypatch.setattr(json_stream, "_WINDOW", 4)
    path.write_text("[1,\n22,\n333, 4444, x]")
    with pytest.raises(DataError) as error:
        list(iter_json(path, "item"))
    assert error.value.where == f"{path}, line 3, column 12"


def test_items_before_a_mistake_are_given(path):
    path.write_text("[1, 2, x]")
    found = []
    with pytest.raises(DataError):
        found.extend(iter_json(path, "item"))
    items = iter_json(path, "item")
    assert [next(items), next(items)] == [1, 2]


BAD = {
    "nested too deeply": "[" * 99_999 + r'{"a]\\": "}\"}"}' + "]" * 99_999,
    "nested too": '{"a": ' * 99_999 + r'["]\\", "\"]"]' + "}" * 99_999,
    "integer string conversion": "-" + "1" * 5_000,
    "integer string": r'{"a\\": [' + "1" * 5_000 + "]}",
    "a value of more than 30,000 characters": '"' + r"[\\\"{" * 10_000 + '"',
    "more than 30,000": "[" + '"x", ' * 10_000 + "1]",
}


def bad_among_good(what):
    """Text of tables with that bad item in each, and what is wanted of them."""
    bad = BAD[what]
    items = f'{{"id": 1}},\n {bad} ,{{"id": 2}}, {bad}'
    return f'{{"info": {bad}, "skipped": [{items}], "wanted": [{items}], "more": {bad}}}'


@pytest.mark.parametrize("window", [1000, 1001, 1 << 20])
@pytest.mark.parametrize("what", BAD)
def test_an_item_that_cannot_be_decoded_costs_that_item_only(path, monkeypatch, what, window):
    monkeypatch.setattr(json_stream, "_WINDOW", window)
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 30_000)
    path.write_text(bad_among_good(what))
    first, bad, second, last = iter_json(path, "wanted.item")
    assert [first, second] == [{"id": 1}, {"id": 2}]
    assert what in str(bad)
    assert what in str(last)
    assert isinstance(bad, DataError)
    assert bad.where == f"{path}, line 3, column 2"


@pytest.mark.parametrize("what", BAD)
def test_one_pass_over_several_lists_goes_on_as_well(path, monkeypatch, what):
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 30_000)
    path.write_text(bad_among_good(what))
    found = list(iter_tables(path, ["skipped", "wanted"]))
    assert [name for name, _ in found] == ["skipped"] * 4 + ["wanted"] * 4
    assert [isinstance(item, DataError) for _, item in found] == [False, True] * 4


@given(JSON, st.integers(1, 12), st.sampled_from([None, 1]))
def test_whatever_is_too_long_is_passed_over_up_to_its_end(tmp_path_factory, item, window, indent):
    path = tmp_path_factory.mktemp("stream") / "a.json"
    path.write_text(json.dumps([0, [item], 1], indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_WINDOW", window)
        patch.setattr(json_stream, "_MAX_VALUE", 0)
        first, found, last = iter_json(path, "item")
    assert all(isinstance(one, DataError) for one in (first, found, last))


def test_a_key_that_cannot_be_decoded_ends_the_reading(path, monkeypatch):
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 30)
    monkeypatch.setattr(json_stream, "_WINDOW", 10)
    path.write_text(json.dumps({"x" * 100: 1, "images": []}))
    with pytest.raises(DataError, match="value of more than 30 characters"):
        list(iter_json(path, "images.item"))


def test_two_lists_of_one_name_are_an_error(path):
    path.write_text('{"images": [1], "a": 1, "a": 2,\n "images": [2]}')
    for items in (iter_json(path, "images.item"), iter_tables(path, ["images"])):
        assert next(items) in (1, ("images", 1))
        with pytest.raises(DataError, match="a second 'images' in this object") as error:
            next(items)
        assert error.value.where == f"{path}, line 2, column 11"


def test_a_missing_quote_does_not_swallow_a_whole_disk(path, monkeypatch):
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 1000)
    monkeypatch.setattr(json_stream, "_WINDOW", 100)
    path.write_text('["' + "x" * 2_000)
    with pytest.raises(DataError, match="value of more than 1,000 characters") as error:
        list(iter_json(path, "item"))
    assert error.value.where == f"{path}, line 1, column 2"


def test_a_missing_file_is_named(path):
    with pytest.raises(DataError, match="No such file") as error:
        list(iter_json(path, "item"))
    assert error.value.where == str(path)


def test_memory_does_not_grow_with_the_file(path, monkeypatch):
    monkeypatch.setattr(json_stream, "_WINDOW", 2_000)
    records = ", ".join([json.dumps({"a": [0.125] * 60})] * 2_000)
    path.write_text(f'{{"skipped": [{records}], "wanted": [{records}]}}')
    tracemalloc.start()
    try:
        assert sum(1 for _ in iter_json(path, "wanted.item")) == 2_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 10


@pytest.mark.parametrize("item", ['"' + "x]" * 400_000 + '"', "[" * 200_000 + "]" * 200_000])
def test_memory_does_not_grow_with_a_bad_item(path, monkeypatch, item):
    monkeypatch.setattr(json_stream, "_WINDOW", 2_000)
    monkeypatch.setattr(json_stream, "_MAX_VALUE", 30_000)
    path.write_text(f"[{item}]")
    del item
    tracemalloc.start()
    try:
        assert [type(one) for one in iter_json(path, "item")] == [DataError]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4
