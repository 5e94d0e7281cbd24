"""Features of a frozen encoder on disk: each image is encoded once and read from then on."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from locvlm.data.collate import join_images
from locvlm.data.shards import Shards
from locvlm.errors import DataError, LocVLMError
from locvlm.io import sha256
from locvlm.processor import Processor
from locvlm.types import Sample


@dataclass(frozen=True, slots=True)
class Features:
    """Features of images, each in a file that is named by the image's bytes.

    A file appears whole or not at all, and the same image always gives the same file. So several
    processes may write at once, and what was interrupted goes on.

    Args:
        folder: of one encoder and of one way to lay images into its frame.
        shape: (P, E), of an image.
        dtype: of the numbers in the files.
    """

    folder: Path
    shape: tuple[int, int]
    dtype: torch.dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of an image's features."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def __call__(self, sample: Sample) -> Tensor:
        """(N, P, E) features in place of a sample's pixels; N is 0 for a text-only sample.

        Raises:
            DataError: they are not there.
        """
        if sample.image is None:
            return torch.zeros(0, *self.shape, dtype=self.dtype)
        path = self._path(sha256(sample.image))
        data = bytearray(path.read_bytes() if path.is_file() else b"")
        if len(data) != self.n_bytes:
            raise DataError(
                "the features of this image are not in the cache: it could not be read when "
                "training began, or its file was lost since",
                where=f"{sample.where}, {path}",
                fix="begin again, with ckpt_path=last to go on with this run",
            )
        return torch.frombuffer(data, dtype=self.dtype).view(1, *self.shape)

    def has(self, name: str) -> bool:
        """Whether there are features of the image whose bytes have this SHA-256."""
        path = self._path(name)
        return path.is_file() and path.stat().st_size == self.n_bytes

    def write(self, name: str, features: Tensor) -> None:
        """Keeps the (P, E) features of the image whose bytes have this SHA-256.

        Raises:
            LocVLMError: the disk is full, or the folder cannot be written.
        """
        path = self._path(name)
        temporary = path.with_name(f".{name}-{os.getpid()}")
        data = features.to(self.dtype).contiguous().view(torch.uint8).numpy().tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not forced to the disk, which would take longer than to encode: `has` counts a file
            # that lost its end with the power as missing.
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise LocVLMError(
                f"cannot write features: {error.strerror or error}",
                where=str(path),
                fix="make room, or give another folder; what is written is used again",
            ) from None

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


class Missing(Dataset[tuple[str, Tensor] | None]):
    """Images of shards that have no features yet: SHA-256 of their bytes, and (1, 3, S, S) pixels.

    None stands for a sample without an image, one whose features are there, and one that cannot be
    read, of which training will tell.

    Args:
        shards: to look for images in.
        processor: lays them into the frame.
        features: what is there.
    """

    def __init__(self, shards: Sequence[Shards], processor: Processor, features: Features):
        self.shards, self.processor, self.features = shards, processor, features
        self._places = [(one, int(place)) for one in shards for place in one.readable]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[str, Tensor] | None:
        shards, position = self._places[index]
        try:
            sample = shards[position]
            if sample.image is None or self.features.has(name := sha256(sample.image)):
                return None
            return name, self.processor.pixel_values(sample)
        except DataError:
            return None


def together(found: Sequence[tuple[str, Tensor] | None]) -> tuple[list[str], Tensor]:
    """A batch of what `Missing` gives: N names and (N, 3, S, S) pixels; each image once."""
    images = dict(each for each in found if each is not None)
    return list(images), join_images(list(images.values())) if images else torch.empty(0)
