"""Reads a folder of images without annotations, to label or to ask about them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.images import check_folder, read_image
from locvlm.errors import DataError
from locvlm.types import Sample

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Samples of the images in a folder and the folders in it, without instances and messages.

    Files with another suffix than an image's are passed over.

    Args:
        images: the folder; links to other folders are followed, each folder once.
        limit: stop after that many images; None reads all.
    """

    images: str | None
    limit: int | None = None

    @property
    def sources(self) -> list[str]:
        return []

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples named by their path, sorted in each folder; the rest goes into `quarantine`.

        Raises:
            ConfigError: no folder is given.
            DataError: there is no such folder.
        """
        folder = check_folder(self.images)
        for n, name in enumerate(_image_names(folder, quarantine)):
            if n == self.limit:
                return
            where = f"{folder}/{name}"
            try:
                data, size = read_image(folder, name)
            except DataError as error:
                quarantine.add(name, error)
            else:
                yield Sample(key=name, source=where, image=data, size=size, extra={"image": name})


def _image_names(root: Path, quarantine: Quarantine) -> Iterator[str]:
    """Paths of image files below `root`, with / between their parts."""
    met: set[tuple[int, int]] = set()  # a link may lead back to a folder above it
    for place, folders, files in os.walk(root, onerror=_into(quarantine), followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in met:
            folders.clear()  # which ends the walk there
            continue
        met.add((status.st_dev, status.st_ino))
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                yield (Path(place) / name).relative_to(root).as_posix()


def _into(quarantine: Quarantine) -> Callable[[OSError], None]:
    def set_aside(error: OSError) -> None:
        what = DataError(f"folder cannot be read: {error.strerror}", where=str(error.filename))
        quarantine.add(str(error.filename), what)

    return set_aside
