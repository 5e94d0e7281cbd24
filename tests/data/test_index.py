import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data.index import ends, read_index, write_index
from locvlm.errors import DataError

FAR = 1 << 60


@pytest.fixture
def shard(tmp_path):
    """Writes a tar of (name, content) and gives its path."""

    def write(*members):
        path = tmp_path / "000003.tar"
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


RECORDS = [b'{"n":0}', b'{"n": 1}']
MEMBERS = [
    ("000003-000000.json", RECORDS[0]),
    ("000003-000000.png", b"p" * 600),
    ("000003-000001.json", RECORDS[1]),
]


def test_rows_say_where_record_and_image_stand(shard):
    # A member is a header of 512 bytes and its content, filled up to a multiple of 512.
    path = shard(*MEMBERS)
    write_index(path, [(11, 22), (33, 0)])
    np.testing.assert_array_equal(
        read_index(path), [[512, 7, 11, 1536, 600, 22], [3072, 8, 33, 0, 0, 0]]
    )


def test_members_may_stand_in_any_order(shard):
    path = shard(*MEMBERS[::-1])
    write_index(path, [(1, 2), (3, 0)])
    index = read_index(path)
    data = path.read_bytes()
    assert [data[row[0] : row[0] + row[1]] for row in index] == RECORDS
    assert data[index[0, 3] : index[0, 3] + index[0, 4]] == b"p" * 600


def test_a_row_is_a_line_beside_the_shard(shard):
    path = shard(*MEMBERS)
    write_index(path, [(11, 22), (33, 0)])
    file = path.parent / "000003.index.json"
    assert file.read_text() == "[\n[512, 7, 11, 1536, 600, 22],\n[3072, 8, 33, 0, 0, 0]\n]\n"


def test_a_sample_is_whole_where_both_its_members_are():
    index = np.array([[512, 7, 0, 1536, 600, 0], [5000, 8, 0, 0, 0, 0], [5000, 8, 0, 512, 9, 0]])
    assert ends(index).tolist() == [2136, 5008, 5008]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("index")


NUMBER = st.integers(0, FAR)


@given(st.lists(st.tuples(*[NUMBER] * 6), min_size=1, max_size=3))
def test_numbers_that_are_accepted_can_be_added(folder, rows):
    (folder / "0.index.json").write_text(json.dumps(rows))
    index = read_index(folder / "0.tar")
    assert index.tolist() == [list(row) for row in rows]
    assert ends(index).tolist() == [max(row[0] + row[1], row[3] + row[4]) for row in rows]


@pytest.mark.parametrize("number", [-1, FAR + 1])
def test_numbers_that_no_file_has_are_refused(tmp_path, number):
    (tmp_path / "0.index.json").write_text(json.dumps([[0, number, 0, 0, 0, 0]]))
    with pytest.raises(DataError, match="out of range") as error:
        read_index(tmp_path / "0.tar")
    assert error.value.where == str(tmp_path / "0.index.json")
    assert error.value.fix == "prepare this data again"


@pytest.mark.parametrize("number", [0.5, 1e400, "3", None, 2**70])
def test_only_integers_are_positions(tmp_path, number):
    (tmp_path / "0.index.json").write_text(json.dumps([[0, number, 0, 0, 0, 0]]))
    with pytest.raises(DataError, match="malformed: it needs rows of 6 integers"):
        read_index(tmp_path / "0.tar")


def test_a_missing_index_is_named(tmp_path):
    with pytest.raises(DataError, match="No such file") as error:
        read_index(tmp_path / "0.tar")
    assert error.value.where == str(tmp_path / "0.index.json")
