"""What the property tests of all readers share: records of which any field may be anything."""

import copy
import json

from hypothesis import strategies as st

from locvlm.data import Quarantine
from locvlm.errors import DataError

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([10**400, -1, 0, "../x.png", "a.png", "\ud800", "x" * 20_000]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=8,
)


def places(value, path=()):
    """The path to each value inside `value`, and to itself."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@st.composite
def broken(draw, record):
    """`record` with one of its values replaced, or with one of its fields missing."""
    path = draw(st.sampled_from(list(places(record))))
    if not path:
        return draw(JSON)
    record = copy.deepcopy(record)
    *outer, last = path
    holder = record
    for key in outer:
        holder = holder[key]
    if draw(st.booleans()) and isinstance(holder, dict):
        del holder[last]
    else:
        holder[last] = draw(JSON)
    return record


def write(path, value):
    path.write_text(json.dumps(value))
    return str(path)


def read_all(reader):
    """All samples by key, and the quarantine."""
    quarantine = Quarantine()
    samples = {sample.key: sample for sample in reader.read(quarantine)}
    return samples, quarantine


def read_or_refuse(reader):
    """Reads all, and accepts that nothing but `DataError` comes of it."""
    try:
        return read_all(reader)
    except DataError:
        return {}, Quarantine()
