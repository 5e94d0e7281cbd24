import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.records import from_record, to_record
from locvlm.errors import DataError
from locvlm.types import Box, Instance, Message, Point, Sample
from tests.data.conftest import annotated, talked

TEXT = st.text(st.characters(codec="utf-8"))
NUMBER = st.floats(-1e6, 1e6)
BOXES = st.builds(Box, NUMBER, NUMBER, NUMBER, NUMBER)
PARTS = st.one_of(TEXT, BOXES, st.builds(Point, NUMBER, NUMBER))
SAMPLES = st.builds(
    Sample,
    key=TEXT,
    source=TEXT,
    image=st.just(b"image"),
    size=st.tuples(st.integers(1, 9999), st.integers(1, 9999)),
    instances=st.lists(
        st.builds(Instance, TEXT, BOXES, st.none() | TEXT, st.booleans(), st.booleans()),
        max_size=3,
    ).map(tuple),
    absent=st.lists(TEXT, max_size=3).map(tuple),
    messages=st.lists(
        st.builds(
            Message,
            st.sampled_from(["user", "assistant"]),
            st.lists(PARTS, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    extra=st.dictionaries(TEXT, TEXT, max_size=2),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(SAMPLES)
def test_a_sample_comes_back_as_it_was_but_for_where_it_was_read(sample):
    record = json.loads(json.dumps(to_record(sample)))
    back = from_record(record, b"image", "here")
    assert back.source == f"here ({sample.source})"
    assert to_record(back) == to_record(sample) | {"source": back.source}


def test_a_unique_description_is_marked_and_other_records_stay_as_they_were():
    plain, unique = (
        to_record(Sample("k", "s", instances=(Instance("cat", Box(0, 0, 1, 1), unique=one),)))
        for one in (False, True)
    )
    assert plain["instances"][0].keys() == {"category", "box", "description", "crowd"}
    assert from_record(json.loads(json.dumps(unique)), None, "here").instances[0].unique


def test_a_text_only_sample_has_no_size():
    sample = Sample("k", "s", messages=(Message("user", ("Hi",)),))
    assert from_record(to_record(sample), None, "here").size is None


@pytest.mark.parametrize("name", list(to_record(annotated(0))))
@given(value=JSON)
def test_nothing_but_a_data_error_comes_of_a_record_with_a_wrong_field(name, value):
    record = json.loads(json.dumps(to_record(annotated(0))))
    try:
        from_record(record | {name: value}, b"image", "shard 3, sample 7")
    except DataError as error:
        assert error.where


@given(JSON)
def test_nothing_but_a_data_error_comes_of_any_json(value):
    with pytest.raises(DataError, match="malformed"):
        from_record(value, None, "here")


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, float("inf"), 4], "1234"]
)
def test_a_box_must_be_four_finite_numbers(box):
    record = json.loads(json.dumps(to_record(annotated(0))))
    record["instances"][0]["box"] = box
    with pytest.raises(DataError, match="malformed"):
        from_record(record, b"image", "here")


def test_only_user_and_assistant_speak():
    record = json.loads(json.dumps(to_record(talked(0))))
    record["messages"][0]["role"] = "system"
    with pytest.raises(DataError, match="role 'system'"):
        from_record(record, b"image", "here")


def test_lone_surrogates_are_replaced():
    record = json.loads(json.dumps(to_record(talked(0))))
    record["messages"][0]["parts"] = ["a\ud800b"]
    assert from_record(record, b"image", "here").messages[0].parts == ("a?b",)
