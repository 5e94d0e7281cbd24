"""Prepared shards as a benchmark's source of images."""

from collections.abc import Iterator
from dataclasses import dataclass

from locvlm.data.quarantine import Quarantine
from locvlm.data.shards import Shards
from locvlm.errors import DataError
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

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in their order; damaged ones go into `quarantine`.

        Raises:
            DataError: the folder holds no shards.
        """
        shards = Shards(self.folder)
        n_samples = len(shards) if self.limit is None else min(self.limit, len(shards))
        for position in range(n_samples):
            try:
                yield shards[position]
            except DataError as error:
                quarantine.add(f"{self.folder}, sample {position}", error)
