"""Bad records are set aside with their reason, and the work goes on."""

import json
import logging
import warnings
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from locvlm.errors import DataError, LocVLMError
from locvlm.images import decode_image, image_size
from locvlm.io import write_text
from locvlm.types import Sample

logger = logging.getLogger(__name__)
_AHEAD = 64  # samples that wait for threads


@dataclass(slots=True)
class Quarantine:
    """Records that could not be used, in the order in which they were met.

    Args:
        records: key, reason, where and fix of each.
        left_out: how many good ones the settings of a reader leave out, by reason.
    """

    records: list[dict[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, key: str, error: LocVLMError) -> None:
        """Sets the record `key` aside because of `error`."""
        self.records.append(
            {
                "key": key,
                "reason": error.what,
                "where": error.where or "",
                "fix": error.fix or "",
            }
        )

    def update(self, other: "Quarantine") -> None:
        """Adds what `other` holds, behind what is there."""
        self.records += other.records
        self.left_out.update(other.left_out)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each kind of reason occurred; numbers and names in it are left out."""
        kinds = Counter(record["reason"].split(":")[0].split(",")[0] for record in self.records)
        return dict(sorted(kinds.items()))

    @property
    def summary(self) -> str:
        """What was set aside and left out, in one line; empty where nothing was."""
        counts = [*self.reasons.items(), *self.left_out.items()]
        return "; ".join(f"{count} x {reason}" for reason, count in counts)

    def write(self, path: Path) -> None:
        """One JSON object a line: key, reason, where, fix."""
        lines = (json.dumps(record) for record in self.records)
        write_text(path, "".join(f"{line}\n" for line in lines))


class BadSamples:
    """Counts the bad samples of a training run, each once, and stops it past a limit.

    The first one is logged; further ones are only counted.

    Args:
        limit: how many are skipped before the run stops.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._reasons: set[str] = set()

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, reasons: Iterable[str]) -> None:
        """Counts bad samples by their reasons, which name them.

        Raises:
            DataError: there are more than `limit` by now.
        """
        for reason in reasons:
            if not self._reasons:
                logger.warning("skips a bad sample; further ones are only counted: %s", reason)
            self._reasons.add(reason)
            if len(self) > self.limit:
                raise DataError(
                    f"{len(self)} bad samples, {self.limit} allowed; the last one: {reason}",
                    where="data.max_bad_samples",
                    fix="prepare the data again, or raise data.max_bad_samples",
                )


def readable(samples: Iterable[Sample], quarantine: Quarantine, n_threads: int) -> Iterator[Sample]:
    """The samples whose image can be decoded, in their order; the others go into `quarantine`.

    Args:
        samples: several threads read a little ahead.
        quarantine: where the others go.
        n_threads: decode at once; they do so outside Python's lock.
    """
    for sample, error in _checked(samples, n_threads):
        if error is None:
            yield sample
        else:
            quarantine.add(sample.key, error)


def _checked(
    samples: Iterable[Sample], n_threads: int
) -> Iterator[tuple[Sample, LocVLMError | None]]:
    if n_threads == 1:  # a thread beside this one would take a tenth more time
        yield from ((sample, _image_error(sample)) for sample in samples)
        return
    waiting: deque[tuple[Sample, Future[LocVLMError | None]]] = deque()
    # Decoding changes warning filters for its time; threads would not change them back in order.
    with warnings.catch_warnings(), ThreadPoolExecutor(n_threads) as pool:
        for sample in samples:
            waiting.append((sample, pool.submit(_image_error, sample)))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        yield from ((sample, future.result()) for sample, future in waiting)


def _image_error(sample: Sample) -> LocVLMError | None:
    if sample.image is None:
        return None
    try:
        width, height = image_size(sample.image, sample.source)
        # All bytes of a JPEG are read and checked, but only an eighth of each side is computed.
        decode_image(sample.image, sample.source, smallest=1)
    except DataError as error:
        return error
    if (width, height) != sample.size:
        return DataError(
            f"image size differs: {width} x {height} in the file, {sample.size} stated",
            where=sample.source,
        )
    return None
