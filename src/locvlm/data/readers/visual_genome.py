"""Reads Visual Genome's region descriptions: phrases about parts of an image."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import (
    Id,
    by_id,
    check_given,
    check_size,
    read_box,
    read_list,
    read_text,
)
from locvlm.data.readers.images import check_folder, read_image
from locvlm.data.readers.phrases import description_of
from locvlm.errors import DataError
from locvlm.json_stream import iter_json
from locvlm.types import Box, Instance, Sample, Size

CATEGORY = "region"  # Visual Genome gives phrases, no class names


@dataclass(frozen=True, slots=True)
class VisualGenomeReader:
    """Samples of Visual Genome, one for each image, its regions as instances with descriptions.

    A phrase is unique where no phrase about another place of the image says all its words: "tree"
    is not beside "tall tree", and "man in red" is. Only unique ones are asked for. The files do
    not tell what is absent. Regions are read in a stream; the table of images is held.

    Args:
        regions: `region_descriptions.json`.
        image_data: `image_data.json`: sizes, and where each image lies.
        images: the folder that holds `VG_100K` and `VG_100K_2`.
        limit: stop after that many images; None reads all.

    Raises:
        ConfigError: a file is missing.
    """

    regions: str | None
    image_data: str | None
    images: str | None
    limit: int | None = None

    def __post_init__(self) -> None:
        fix = "add source.regions=FILE, region_descriptions.json"
        check_given(self.regions, "a file of regions", "regions", fix)
        fix = "add source.image_data=FILE, image_data.json"
        check_given(self.image_data, "a file about the images", "image_data", fix)

    @property
    def sources(self) -> list[str]:
        return [str(self.regions), str(self.image_data)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of `regions`; what cannot be used goes into `quarantine`.

        Raises:
            DataError: a file is none of Visual Genome's, or the image folder is missing.
        """
        file = str(self.regions)
        folder = check_folder(self.images)
        images = _images(str(self.image_data), quarantine)
        records = by_id(iter_json(file, "item"), "id", file, quarantine)
        for n, (where, id_, record) in enumerate(records):
            if n == self.limit:
                return
            try:
                if id_ not in images:
                    raise DataError("regions of no image, or for a second time", where=where)
                yield _sample(folder, id_, images.pop(id_), record, where, quarantine)
            except DataError as error:
                quarantine.add(str(id_), error)


def unique_phrases(regions: Sequence[tuple[str, Box]]) -> list[bool]:
    """Which phrases no other one fits that is about another place.

    A phrase fits where it says all the words; a place is another one where its centre lies outside
    the box: people describe the same object several times, with boxes that differ a little.

    Args:
        regions: phrases with their boxes, of one image.
    """
    words = [frozenset(phrase.casefold().split()) for phrase, _ in regions]
    saying: dict[str, set[int]] = defaultdict(set)
    for n, group in enumerate(words):
        for word in group:
            saying[word].add(n)
    return [
        all(
            _holds(box, regions[other][1])
            for other in set.intersection(*(saying[word] for word in words[n]))
        )
        for n, (_, box) in enumerate(regions)
    ]


def _images(file: str, quarantine: Quarantine) -> dict[Id, dict[str, Any]]:
    """The name of each image file, `VG_100K/<id>.jpg`, and the size its regions belong to."""
    found = {}
    items = map(_with_image_id, iter_json(file, "item"))
    for where, id_, item in by_id(items, "image_id", file, quarantine):
        try:
            name = "/".join(read_text(item, "url", where).split("/")[-2:])
        except DataError as error:
            quarantine.add(str(id_), error)
            continue
        stated = {key: item[key] for key in ("width", "height") if key in item}
        found[id_] = {"file_name": name} | stated
    return found


def _with_image_id(item: Any) -> Any:
    """An image's record; version 1.0 calls its number `id`, later ones `image_id`."""
    if isinstance(item, dict) and "image_id" not in item:
        return {**item, "image_id": item.get("id")}
    return item


def _sample(
    folder: Path,
    id_: Id,
    image: dict[str, Any],
    record: Any,
    where: str,
    quarantine: Quarantine,
) -> Sample:
    data, size = read_image(folder, image["file_name"])
    check_size(image, size, where)
    found = []
    for n, region in enumerate(read_list(record, "regions", where)):
        try:
            found.append(_region(region, size, f"{where}, region {n}"))
        except DataError as error:
            quarantine.add(f"{id_}, region {n}", error)
    return Sample(
        key=str(id_),
        source=f"{where}, image {id_}",
        image=data,
        size=size,
        instances=tuple(
            Instance(CATEGORY, box, phrase, unique=unique)
            for (phrase, box), unique in zip(found, unique_phrases(found), strict=True)
        ),
        extra={"image": image["file_name"]},
    )


def _region(region: Any, size: Size, where: str) -> tuple[str, Box]:
    text = read_text(region, "phrase", where)
    phrase = description_of(text)
    if not phrase:
        raise DataError("phrase without words", where=where)
    sides = [region.get(name) for name in ("x", "y", "width", "height")]
    return phrase, read_box(sides, size, where)


def _holds(box: Box, other: Box) -> bool:
    x, y = other.center
    return box.x1 <= x <= box.x2 and box.y1 <= y <= box.y2
