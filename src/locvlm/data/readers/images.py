"""Image files that annotations name."""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from locvlm.data.readers.fields import shown
from locvlm.errors import ConfigError, DataError
from locvlm.images import MAX_BYTES, image_size
from locvlm.io import safe_member
from locvlm.types import Size

# An image as Qwen-VL's records name it within the text of a turn.
PICTURE = re.compile(r"(?:Picture \d{1,4}: ?)?<img>([^<>\n]+\.\w{3,4})</img>\n?")
_NO_IMAGES = ("video", "videos", "audio", "audios", "speech")


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

    Where there is no .jpg, a .gif beside it is read: OCR-VQA's downloads have the suffix that each
    image came with, and LLaVA-1.5's mix calls all of them .jpg (haotian-liu/LLaVA, issue 601).

    Args:
        folder: of the data set's images.
        name: path below it, as annotations give it.

    Raises:
        DataError: the file is missing, cannot be read, is no image, or lies outside the folder; a
            link that stands in the folder is followed.
    """
    where = f"{folder}/{name[:1000] if isinstance(name, str) else shown(name)}"
    if not isinstance(name, str) or not safe_member(name):
        raise DataError(
            "image path is none below the image folder",
            where=where,
            fix="paths start from images=FOLDER; where they are absolute, it is a folder above",
        )
    try:
        data = _bytes(folder / name, where)
    except FileNotFoundError:
        raise DataError(
            "image file is missing",
            where=where,
            fix="put it there, or give the folder that it is in as images=FOLDER",
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"image file cannot be read: {error}", where=where) from None
    return data, image_size(data, where)


def record_images(record: Mapping[str, Any]) -> list[Any]:
    """The images of a record, as it names them: `images`, `image`, or Qwen-VL's in the text."""
    images = record.get("images") or record.get("image") or []
    if images:
        return images if isinstance(images, list) else [images]
    turns = record.get("conversations")
    turns = turns if isinstance(turns, list) else []
    values = [turn.get("value") for turn in turns if isinstance(turn, dict)]
    texts = [value for value in values if isinstance(value, str)]
    return list(dict.fromkeys(name for text in texts for name in PICTURE.findall(text)))


def single_image(record: Mapping[str, Any], where: str) -> Any:
    """The image of a record as it names it; None where it has none.

    Raises:
        DataError: it has several, or a video, or sound.
    """
    if others := [name for name in _NO_IMAGES if record.get(name)]:
        raise DataError(f"record with {others[0]}: images are read, nothing else", where=where)
    images = record_images(record)
    if len(images) > 1:
        raise DataError("record with more images than one", where=where)
    return images[0] if images else None


def image_name(image: Any, folder: Path) -> Any:
    """An image of a record by its path below `folder`: ms-swift's may be absolute, or objects."""
    name = image.get("path") if isinstance(image, dict) else image
    root = f"{str(folder.absolute()).rstrip('/')}/"
    return name.removeprefix(root) if isinstance(name, str) else name


def _bytes(path: Path, where: str) -> bytes:
    if path.suffix == ".jpg" and not path.exists() and path.with_suffix(".gif").exists():
        path = path.with_suffix(".gif")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a pipe would never end
        raise DataError("image is not a file", where=where)
    if status.st_size > MAX_BYTES:
        raise DataError(f"image file is too large: {status.st_size:,} bytes", where=where)
    return path.read_bytes()
