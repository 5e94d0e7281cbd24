"""Reads COCO panoptic annotations: every pixel of an image belongs to a segment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import (
    Id,
    by_id,
    category_names,
    check_given,
    check_size,
    read_box,
    read_id,
    read_list,
    shown,
)
from locvlm.data.readers.images import check_folder, read_image
from locvlm.errors import DataError
from locvlm.json_stream import iter_json
from locvlm.negatives import RandomNegatives
from locvlm.types import Instance, Sample, Size


@dataclass(frozen=True, slots=True)
class PanopticReader:
    """Samples of a COCO panoptic file, one for each annotated image.

    Segments become instances with their boxes; the masks (PNG files) are not needed. Absent
    categories are drawn from those that the image has no segment of. The file is read in a stream;
    only the table of images is held.

    Args:
        panoptic: the JSON file: images, annotations, categories.
        images: folder of the image files.
        things_only: leave out the segments of stuff, such as sky or wall. They count as shown.
        n_negatives: absent categories per image.
        limit: stop after that many annotations; None reads all.
        seed: of the drawing of negatives.

    Raises:
        ConfigError: no file is given.
    """

    panoptic: str | None
    images: str | None
    things_only: bool = False
    n_negatives: int = 4
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        fix = "add source.panoptic=FILE, such as panoptic_train2017.json"
        check_given(self.panoptic, "a file of annotations", "panoptic", fix)

    @property
    def sources(self) -> list[str]:
        return [str(self.panoptic)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the annotations; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no panoptic JSON, or its image folder is missing.
        """
        file = str(self.panoptic)
        folder = check_folder(self.images)
        names = category_names(iter_json(file, "categories.item"), file)
        stuff = {
            category["id"]
            for category in iter_json(file, "categories.item")
            if not category.get("isthing", 1)
        }
        draw = RandomNegatives(sorted(set(names.values())))
        images = _images(iter_json(file, "images.item"), file, quarantine)
        for n, annotation in enumerate(iter_json(file, "annotations.item")):
            if self.limit is not None and n >= self.limit:
                return
            where = f"{file}, annotations[{n}]"
            key = f"annotation {n}"
            try:
                id_ = read_id(annotation, "image_id", where)
                key = str(id_)
                if id_ not in images:
                    raise DataError("annotation of no image, or a second one", where=where)
                image = images.pop(id_)
                data, size = read_image(folder, image["file_name"])
                check_size(image, size, where)
                segments = read_list(annotation, "segments_info", where)
            except DataError as error:
                quarantine.add(key, error)
                continue
            known = {s.get("category_id") for s in segments if _names_category(s, names)}
            present = {names[one] for one in known}
            kept = [s for s in segments if not (self.things_only and _is_of(s, stuff))]
            yield Sample(
                key=key,
                source=f"{file}, image {key}",
                image=data,
                size=size,
                instances=tuple(instances_of(kept, names, size, where, quarantine, key)),
                absent=tuple(
                    draw(present, Random(f"negatives {self.seed} {key}"), self.n_negatives)
                ),
            )
        for id_ in images:
            where = f"{file}, image {id_}"
            quarantine.add(str(id_), DataError("image without annotation", where=where))


def instances_of(
    segments: Sequence[Any],
    names: dict[Id, str],
    size: Size,
    where: str,
    quarantine: Quarantine,
    key: str,
) -> Iterator[Instance]:
    """The instances that segments describe.

    Args:
        segments: `segments_info` of an annotation.
        names: of categories, by id.
        size: (width, height) of the image in pixels.
        where: for error messages.
        quarantine: of the segments that cannot be used.
        key: of their sample.
    """
    for n, segment in enumerate(segments):
        place = f"{where}, segment {n}"
        try:
            if not _names_category(segment, names):
                raise DataError(f"unknown category id: {shown(segment)}", where=place)
            yield Instance(
                category=names[segment["category_id"]],
                box=read_box(segment.get("bbox"), size, place),
                crowd=bool(segment.get("iscrowd", 0)),
            )
        except DataError as error:
            quarantine.add(key, error)


def _images(items: Iterator[Any], file: str, quarantine: Quarantine) -> dict[Id, Any]:
    """What is needed of each image until its annotation comes."""
    wanted = ("file_name", "width", "height")
    return {
        id_: {"file_name": None} | {name: image[name] for name in wanted if name in image}
        for _, id_, image in by_id(items, "id", file, quarantine)
    }


def _names_category(segment: Any, names: dict[Id, str]) -> bool:
    return _is_of(segment, names.keys())


def _is_of(segment: Any, categories: Any) -> bool:
    category = segment.get("category_id") if isinstance(segment, dict) else None
    return isinstance(category, int | str) and category in categories
