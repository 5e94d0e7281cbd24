"""Reads plain data out of a pickle without running anything that it may hold."""

import io
import pickle
from pathlib import Path
from typing import Any, NoReturn

from locvlm.errors import DataError

# Python's own interpreter in Python: the one in C makes room for whatever memo index a file names,
# up to 64 GB, before it looks whether anything is there.
_Unpickler: Any = pickle._Unpickler
_CALLS = {
    pickle.REDUCE: "to call a function",
    pickle.BUILD: "to set the state of an object",
    pickle.OBJ: "to make an object",
    pickle.NEWOBJ: "to make an object",
    pickle.NEWOBJ_EX: "to make an object",
    pickle.EXT1: "for an object of the extension registry",
    pickle.EXT2: "for an object of the extension registry",
    pickle.EXT4: "for an object of the extension registry",
    pickle.PERSID: "for an object outside the file",
    pickle.BINPERSID: "for an object outside the file",
    pickle.NEXT_BUFFER: "for a buffer outside the file",
    pickle.READONLY_BUFFER: "for a buffer outside the file",
    # These two make room for as much as they announce before they read it.
    pickle.BYTEARRAY8: "for a bytearray",
    pickle.LONG4: "for a number of more than 255 bytes",
}


class _Refused(pickle.UnpicklingError):
    """A pickle that asks for more than plain data."""


class _PlainUnpickler(_Unpickler):
    """Knows containers, text and numbers only."""

    dispatch = dict(_Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> NoReturn:
        """Every import: functions and classes alike."""
        raise _Refused(f"for {module}.{name}")


def _refusal(what: str) -> Any:
    def refuse(unpickler: _PlainUnpickler) -> NoReturn:
        raise _Refused(what)

    return refuse


_PlainUnpickler.dispatch |= {code[0]: _refusal(what) for code, what in _CALLS.items()}


def read_pickle(path: str | Path) -> Any:
    """The lists, dicts, tuples, sets, texts, bytes and numbers of a pickle, of protocol 0 to 5.

    Texts of Python 2 are read as Latin-1. Nothing is imported, called or made beyond these types,
    whoever wrote the file.

    Raises:
        DataError: the file is missing, is no pickle, or asks for anything else, which is named.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read this file: {error.strerror or error}", where=str(path)
        ) from error
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as error:
        raise DataError(
            f"pickle asks {str(error)[:200]!r}, which is no plain data: it is not read",
            where=str(path),
            fix="take the file from its authors, or convert it to lists, dicts, text and numbers",
        ) from None
    except Exception as error:  # a damaged file makes its interpreter stumble in any way
        raise DataError(
            f"not a pickle, or a damaged one: {type(error).__name__}: {str(error)[:200]}",
            where=str(path),
        ) from None
