"""Image files that annotations name."""

import stat
from pathlib import Path
from typing import Any

from locvlm.data.readers.fields import shown
from locvlm.errors import ConfigError, DataError
from locvlm.images import MAX_BYTES, image_size
from locvlm.io import safe_member
from locvlm.types import Size


def check_folder(images: str | None) -> Path:
    """The folder of a data set's images.

    Raises:
        ConfigError: none was given.
        DataError: there is no such folder.
    """
    if images is None:
        raise ConfigError(
            "a folder of images is needed",
            where="source.images",
            fix="add images=FOLDER, or benchmark.source.images=FOLDER to evaluate",
        )
    if not Path(images).is_dir():
        raise DataError(
            "no such image folder", where=images, fix="give the folder that the images are in"
        )
    return Path(images)


def read_image(folder: Path, name: Any) -> tuple[bytes, Size]:
    """An image file's bytes and its (width, height).

    Args:
        folder: of the data set's images.
        name: path below it, as annotations give it.

    Raises:
        DataError: the file is missing, cannot be read, is no image, or lies outside the folder; a
            link that stands in the folder is followed.
    """
    where = f"{folder}/{name[:1000] if isinstance(name, str) else shown(name)}"
    if not isinstance(name, str) or not safe_member(name):
        raise DataError("image path is none below the image folder", where=where)
    try:
        status = (folder / name).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise DataError("image is not a file", where=where)
        if status.st_size > MAX_BYTES:
            raise DataError(f"image file is too large: {status.st_size:,} bytes", where=where)
        data = (folder / name).read_bytes()
    except FileNotFoundError:
        raise DataError(
            "image file is missing",
            where=where,
            fix="put it there, or give the folder that it is in as images=FOLDER",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"image file cannot be read: {error}", where=where) from None
    return data, image_size(data, where)


def image_name(image: Any, folder: Path) -> Any:
    """An image of a record by its path below `folder`: ms-swift's may be absolute, or objects."""
    name = image.get("path") if isinstance(image, dict) else image
    if isinstance(name, str) and name.startswith(f"{folder.absolute()}/"):
        return name.removeprefix(f"{folder.absolute()}/")
    return name
