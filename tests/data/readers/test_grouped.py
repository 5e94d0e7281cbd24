import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.readers.grouped import grouped
from locvlm.errors import DataError

ROWS = st.lists(st.tuples(st.integers() | st.text(st.characters(exclude_categories=())), st.text()))


def test_records_come_back_by_image_in_their_order():
    with grouped([(7, "a"), ("7", "b"), (7, {"box": [1.5, None]}), (8, "d")]) as records:
        assert records[7] == ["a", {"box": [1.5, None]}]
        assert records["7"] == ["b"]
        assert records[9] == []
        assert sorted(map(len, records.groups())) == [1, 1, 2]


@given(ROWS)
def test_no_record_is_lost_or_mixed_up(rows):
    wanted = {}
    for image, value in rows:
        wanted.setdefault(image, []).append(value)
    with grouped(iter(rows)) as records:
        assert {image: records[image] for image in wanted} == wanted
        assert sorted(records.groups()) == sorted(wanted.values())


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with grouped((n, "x" * 100_000) for n in range(1_000)) as records:  # more than the cache
        assert len(records[999]) == 1
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_gets_a_message(monkeypatch):
    def full(_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(sqlite3, "connect", full)
    with pytest.raises(DataError, match="disk is full(?s:.*)TMPDIR"), grouped([]):
        pass
