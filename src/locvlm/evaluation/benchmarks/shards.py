"""Prepared shards as a benchmark's source of images."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from locvlm.data.manifest import MANIFEST
from locvlm.data.quarantine import Quarantine
from locvlm.data.shards import Shards
from locvlm.errors import DataError
from locvlm.io import read_json
from locvlm.types import Sample


@dataclass(frozen=True, slots=True)
class ShardSource:
    """Samples of a folder that `python -m locvlm.prepare` wrote.

    Args:
        folder: with the shards; one that training has not read.
        limit: stop after that many samples; None reads all.
    """

    folder: str
    limit: int | None = None

    @property
    def sources(self) -> list[str]:
        """The manifest, which has the checksums of all shards."""
        return [str(Path(self.folder) / MANIFEST)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in their order; damaged ones go into `quarantine`.

        Raises:
            DataError: the folder holds no shards, or no annotations but conversations.
        """
        shards = Shards(self.folder)
        if not read_json(Path(self.folder) / MANIFEST)["counts"].get("instances", 1):
            raise DataError(
                "these shards hold conversations, and no annotations to ask about",
                where=self.folder,
                fix="prepare annotated images, such as source=coco, and give their shards",
            )
        n_samples = len(shards) if self.limit is None else min(self.limit, len(shards))
        for position in range(n_samples):
            try:
                yield shards[position]
            except DataError as error:
                quarantine.add(f"{self.folder}, sample {position}", error)
