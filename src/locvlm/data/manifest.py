"""The manifest of a folder of shards, as far as reading them depends on it."""

from pathlib import Path
from typing import Any, NamedTuple

from locvlm.errors import DataError
from locvlm.io import read_json, safe_member

MANIFEST = "manifest.json"
FORMAT = "locvlm shards"
VERSION = 1
MAX_SAMPLES = 1_000_000  # in a shard: their keys have six digits
_MAX_NAME = 200  # characters


class Listed(NamedTuple):
    """A shard as the manifest lists it: its file, how many samples it has, its SHA-256 in hex."""

    file: Path
    n_samples: int
    sha256: str


def listed_shards(folder: Path) -> list[Listed]:
    """The shards of a folder, in order; whatever its manifest says, their files lie in it.

    Raises:
        DataError: there is no manifest, it is malformed, or it lists no shards.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(
            f"no shards here: there is no {MANIFEST}",
            where=str(folder),
            fix="make them with python -m locvlm.prepare output=FOLDER ...",
        )
    manifest = read_json(path)
    try:
        if (manifest["format"], manifest["version"]) != (FORMAT, VERSION):
            raise DataError(
                f"not {FORMAT} of version {VERSION}", where=str(path), fix="prepare this data again"
            )
        listed = [_listed(folder, shard) for shard in manifest["shards"]]
    except (LookupError, TypeError, ValueError) as error:
        what = f"manifest is malformed: {repr(error)[:200]}"
        raise DataError(what, where=str(path)) from None
    if not listed:
        raise DataError("manifest without shards", where=str(path))
    return list({one.file: one for one in listed}.values())


def _listed(folder: Path, shard: Any) -> Listed:
    name, n_samples = Path(shard["file"]).name, shard["samples"]
    if not (safe_member(name) and len(name) <= _MAX_NAME):
        raise ValueError(f"file {name!r}")
    if not (isinstance(n_samples, int) and 0 < n_samples <= MAX_SAMPLES):
        raise ValueError(f"{n_samples!r} samples in {name}")
    return Listed(folder / name, n_samples, str(shard["sha256"]))
