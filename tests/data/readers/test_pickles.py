import collections
import datetime
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.readers.pickles import read_pickle
from locvlm.errors import DataError

TEXT = st.text(st.characters(codec="utf-8"), max_size=9)
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
# What cPickle.dumps of Python 2.7 wrote, in its three protocols
PYTHON_2 = [
    b"(lp1\n(dp2\nS'box'\np3\n(F1.5\ntp4\nsS'raw'\np5\nV\\u2019\nsS'ann_id'\np6\nL5L\nsS'sent'\np7"
    b"\nS'caf\\xe9'\np8\nsa.",
    b"]q\x01}q\x02(U\x03boxq\x03(G?\xf8\x00\x00\x00\x00\x00\x00tq\x04U\x03rawq\x05X\x03\x00\x00\x00"
    b"\xe2\x80\x99U\x06ann_idq\x06L5L\nU\x04sentq\x07U\x04caf\xe9q\x08ua.",
    b"\x80\x02]q\x01}q\x02(U\x03boxq\x03G?\xf8\x00\x00\x00\x00\x00\x00\x85q\x04U\x03rawq\x05X\x03"
    b"\x00\x00\x00\xe2\x80\x99U\x06ann_idq\x06\x8a\x01\x05U\x04sentq\x07U\x04caf\xe9q\x08ua.",
]


class Calls:
    """Runs a shell command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Plain:
    """An object of nobody's harm; making one runs code of its class all the same."""


@pytest.fixture
def read(tmp_path):
    """Reads bytes as a pickle file."""

    def run(data):
        file = tmp_path / "refs.p"
        file.write_bytes(data)
        return read_pickle(file)

    return run


@pytest.mark.parametrize("data", PYTHON_2)
def test_reads_what_python_2_wrote(read, data):
    assert read(data) == [{"sent": "caf\xe9", "raw": "\u2019", "ann_id": 5, "box": (1.5,)}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back_in_every_protocol(read, protocol):
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
    if protocol >= 3:  # before, bytes are written as a call
        leaves |= st.binary(max_size=9)
    if protocol >= 4:  # and so are sets
        leaves |= st.sets(TEXT, max_size=3) | st.frozensets(TEXT, max_size=3)

    @given(
        st.recursive(
            leaves,
            lambda inner: (
                st.lists(inner, max_size=4)
                | st.dictionaries(TEXT, inner, max_size=4)
                | st.tuples(inner, inner)
            ),
            max_leaves=12,
        )
    )
    def check(value):
        assert read(pickle.dumps(value, protocol)) == value

    check()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_sharing_stays(read, protocol):
    one = ["left cat"]
    first, second = read(pickle.dumps([one, one], protocol))
    assert first is second


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_command_is_named_and_not_run(read, tmp_path, protocol):
    made = tmp_path / "made"
    with pytest.raises(DataError, match=r"asks 'for (posix|nt)\.system'") as error:
        read(pickle.dumps([Calls(f"touch {made}")], protocol))
    assert error.value.where == str(tmp_path / "refs.p")
    assert not made.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (collections.OrderedDict(a=1), r"collections\.OrderedDict"),
        (np.float64(1.5), r"numpy\.?\S*\.scalar"),
        (np.zeros(2), r"numpy\.?\S*\._(reconstruct|frombuffer)"),
        (datetime.date(2000, 1, 1), r"datetime\.date"),
        (Plain(), r"Plain|_reconstructor"),
        (print, r"(builtins|__builtin__)\.print"),
    ],
)
def test_what_is_no_plain_data_is_refused_by_name(read, protocol, value, name):
    with pytest.raises(DataError, match=name):
        read(pickle.dumps({"value": value}, protocol))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", r"for os\.system"),
        (b"(S'true'\nios\nsystem\n.", r"for os\.system"),
        (b"(cos\nsystem\nS'true'\no.", r"for os\.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"for os\.system"),
        (b"Vx\n(tR.", "to call a function"),
        (b"}}b.", "to set the state"),
        (b"\x80\x02}(t\x81.", "to make an object"),
        (b"\x80\x02\x82\x01.", "extension registry"),
        (b"P1\n.", "outside the file"),
        (b"\x80\x05\x97.", "outside the file"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".", "for a bytearray"),
        (b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b".", "more than 255 bytes"),
    ],
)
def test_every_way_to_run_something_is_refused(read, data, reason):
    with pytest.raises(DataError, match=reason):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"(lp1",
        b"\x80\x09N.",
        b"not a pickle",
        pickle.dumps(["x" * 100])[:-30],
        b"X" + struct.pack("<I", 1 << 31) + b"x.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
        b"I" + b"9" * 5000 + b"\n.",
        b"\x80\x02]r",
        b"h\x07.",
        b".",
    ],
)
def test_a_damaged_file_is_named(read, data):
    with pytest.raises(DataError, match="not a pickle, or a damaged one"):
        read(data)


def test_a_huge_memo_index_takes_no_memory(read):
    data = b"\x80\x02]r" + struct.pack("<I", (1 << 31) - 1) + b"."
    assert read(data) == []


def test_deep_nesting_is_no_trouble(read):
    value = read(b"]" * 100_000 + b"a" * 99_999 + b".")
    assert len(value) == 1


@given(st.binary(max_size=60))
def test_nothing_but_a_data_error_comes_of_any_bytes(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("any") / "refs.p"
    file.write_bytes(data)
    try:
        read_pickle(file)
    except DataError as error:
        assert error.where == str(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot read this file"):
        read_pickle(tmp_path / "none.p")
