"""Shards in an object store: fetched once, checked, and kept in a folder of this machine.

A location is data: only the schemes that are named here are opened, nothing is run.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path

from locvlm.errors import ConfigError, DataError, LocVLMError
from locvlm.io import locked, sha256, write_bytes

SCHEMES = ("s3", "gs", "https", "http")
CACHE = Path("~", ".cache", "locvlm", "shards")
ATTEMPTS = 3
_EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}


@dataclass(frozen=True, slots=True)
class Remote:
    """A folder of an object store, and where its files are kept on this machine.

    Args:
        url: such as `s3://bucket/data/shards`.
        folder: of the copies; processes share it.
    """

    url: str
    folder: Path

    def fetch(self, name: str, checksum: str | None = None) -> Path:
        """The local copy of the file `name`, downloaded where it is missing.

        Args:
            name: below the folder.
            checksum: SHA-256 in hex that the file must have; None trusts it.

        Raises:
            DataError: there is no such file.
            LocVLMError: it cannot be had, or its checksum differs.
        """
        path = self.folder / name
        if path.is_file():
            return path
        with locked(path):
            if not path.is_file():  # another process may have been first
                data = _download(f"{self.url}/{name}")
                if checksum is not None and sha256(data) != checksum:
                    raise LocVLMError(  # not one bad sample: each would download it again
                        f"shard is damaged: {len(data):,} bytes with another checksum",
                        where=f"{self.url}/{name}",
                        fix="upload the shards again, all files of the folder together",
                    )
                write_bytes(path, data)
        return path


def find_remote(location: str, cache: str | Path | None, marker: str) -> Remote | None:
    """The remote folder at a location; None where the location is a path of this machine.

    Args:
        location: a path or a URL.
        cache: folder for the copies of all remote folders; None takes `CACHE`.
        marker: a file that says what is in the folder. It is read anew each time, and copies are
            kept apart by it: a folder that was uploaded again is downloaded again.

    Raises:
        ConfigError: a URL of another scheme, such as `pipe:`, or one whose package is missing.
        DataError: there is no such folder.
        LocVLMError: the store cannot be reached, or the copies cannot be written.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", location)
    if scheme is None or Path(location).is_dir():
        return None
    if not re.fullmatch(rf"({'|'.join(SCHEMES)})://[^:]+(:\d+/[^:]*)?", location):
        raise ConfigError(
            f"shards are not read from {scheme[1]}: locations",
            where=location,
            fix=f"give a folder, or a URL that begins with {', '.join(SCHEMES)} and ://",
        )
    url = location.rstrip("/")
    content = _download(f"{url}/{marker}")
    name = re.sub(r"[^A-Za-z0-9]+", "-", url)[-60:].strip("-")
    version = sha256(url.encode() + content)[:12]
    folder = Path(cache or CACHE).expanduser() / f"{name}-{version}"
    write_bytes(folder / marker, content)
    return Remote(url, folder)


def _download(url: str) -> bytes:
    import fsspec

    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(2**attempt)
        try:
            store, path = fsspec.url_to_fs(url)
            data: bytes = store.cat_file(path)
            return data
        except FileNotFoundError:
            raise DataError("no such file", where=url) from None
        except ImportError as error:
            raise ConfigError(
                f"this location needs another package: {error}",
                where=url,
                fix=f"pip install {_EXTRAS.get(url.partition(':')[0], 'fsspec[http]')}",
            ) from error
        except Exception as error:  # each store has exceptions of its own
            reason = error
    raise LocVLMError(
        f"cannot be downloaded in {ATTEMPTS} attempts: {reason!r}",
        where=url,
        fix="check the network and the access rights, or copy the folder to this machine",
    )
