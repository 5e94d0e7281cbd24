"""Objects that people referred to, from a reader of RefCOCO, without holding their images."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from locvlm.errors import DataError
from locvlm.types import Box, Instance, Sample, Size

if TYPE_CHECKING:  # it needs torch, which scoring recorded boxes does without
    from locvlm.data.quarantine import Quarantine


class Expressions(Protocol):
    """A reader of referring expressions, such as `RefCocoReader` and `MdetrReader`."""

    @property
    def images(self) -> str | None:
        """Folder of the images."""

    @property
    def sources(self) -> Sequence[str]:
        """The files."""

    def read(self, quarantine: "Quarantine") -> Iterator[Sample]:
        """Samples with their instances; `extra["image"]` is the file below the folder."""


class Referred(NamedTuple):
    """One object and what was said of it.

    Args:
        id: its image and its place among the image's referred objects, from 0.
        image: file below the folder of images.
        size: (width, height) of the image in pixels.
        box: in pixels.
        expressions: in their order, each once.
        unique: which of them are said of no other object of the image.
    """

    id: str
    image: str
    size: Size
    box: Box
    expressions: tuple[str, ...]
    unique: tuple[bool, ...]


class Objects(NamedTuple):
    """All referred objects, and how many records were left out, by reason."""

    objects: list[Referred]
    left_out: dict[str, int]


def referred(source: Expressions) -> Objects:
    """The objects of a reader.

    Raises:
        DataError: there are none.
    """
    from locvlm.data.quarantine import Quarantine

    quarantine = Quarantine()
    objects = [one for sample in source.read(quarantine) for one in _of(sample)]
    if not objects:
        raise DataError(
            f"no object can be asked about: {quarantine.summary or 'no expression is there'}",
            where=", ".join(source.sources),
            fix="give the files of one data set, its split and the folder of its images",
        )
    return Objects(objects, {f"left out: {why}": n for why, n in quarantine.reasons.items()})


def _of(sample: Sample) -> Iterator[Referred]:
    assert sample.size is not None
    said: dict[tuple[Box, str], list[Instance]] = {}
    for one in sample.instances:
        if one.description is not None:
            said.setdefault((one.box, one.category), []).append(one)
    for n, ((box, _), instances) in enumerate(said.items()):
        yield Referred(
            id=f"{sample.key}/{n}",
            image=sample.extra["image"],
            size=sample.size,
            box=box,
            expressions=tuple(str(one.description) for one in instances),
            unique=tuple(one.unique for one in instances),
        )
