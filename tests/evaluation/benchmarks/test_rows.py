import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.rows import read_rows


def write(folder, data):
    file = folder / "table.csv"
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_rows_are_read_whatever_ends_their_lines(tmp_path, end):
    file = write(tmp_path, end.join([b"\xef\xbb\xbfa\tb", b"1\tx, y", b'2\t"q"', b""]))
    rows = list(read_rows(file, ["a", "b"], "\t"))
    assert rows == [
        (f"{file}, line 2", {"a": "1", "b": "x, y"}),
        (f"{file}, line 3", {"a": "2", "b": "q"}),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,c\n1,2\n", "there is no column b; the columns are a, c"),
        (b"", "the columns are none"),
        (b"a,b\n1\n", "another number of cells"),
        (b"a,b\n1,2,3\n", "another number of cells"),
        (b"a,b\n\xff,2\n", "no table of text"),
        (b'a,b\n1,"2\n', "no table of text"),
        (b"a,b\n1," + b"2" * 200_000, "no table of text"),
    ],
)
def test_another_file_is_refused(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as error:
        list(read_rows(write(tmp_path, data), ["a", "b"]))
    assert "table.csv" in error.value.where


def test_a_missing_file_is_named():
    with pytest.raises(DataError, match="cannot read"):
        list(read_rows("gone.csv", ["a"]))
