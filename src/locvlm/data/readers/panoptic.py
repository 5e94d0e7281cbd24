"""Reads COCO panoptic annotations: every pixel of an image belongs to a segment."""

from collections.abc import Iterator, Mapping, Sequence
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
        hidden = _stuff(iter_json(file, "categories.item")) if self.things_only else set()
        images = _images(iter_json(file, "images.item"), file, quarantine)
        for n, annotation in enumerate(iter_json(file, "annotations.item")):
            if n == self.limit:
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
            kept = [one for one in segments if _category(one) not in hidden]
            yield Sample(
                key=key,
                source=f"{file}, image {key}",
                image=data,
                size=size,
                instances=tuple(instances_of(kept, names, size, where, quarantine)),
                absent=self._absent(segments, names, key),
                extra={"image": image["file_name"]},
            )
        for id_ in images:
            missing = DataError("image without annotation", where=f"{file}, image {id_}")
            quarantine.add(str(id_), missing)

    def _absent(
        self, segments: Sequence[Any], names: Mapping[Id, str], key: str
    ) -> tuple[str, ...]:
        """Categories without a segment; one whose box is unusable is there all the same."""
        known = (_category(segment) for segment in segments)
        present = {names[one] for one in known if one in names}
        draw = RandomNegatives(sorted(set(names.values())))
        return tuple(draw(present, Random(f"negatives {self.seed} {key}"), self.n_negatives))


def instances_of(
    segments: Sequence[Any],
    names: Mapping[Id, str],
    size: Size,
    where: str,
    quarantine: Quarantine,
) -> Iterator[Instance]:
    """The instances that segments describe.

    Args:
        segments: `segments_info` of an annotation.
        names: of categories, by id.
        size: (width, height) of the image in pixels.
        where: for error messages.
        quarantine: of the segments that cannot be used.
    """
    for n, segment in enumerate(segments):
        place = f"{where}, segment {n}"
        try:
            category = _category(segment)
            if category not in names:
                raise DataError(f"unknown category id: {shown(segment)}", where=place)
            yield Instance(
                category=names[category],
                box=read_box(segment.get("bbox"), size, place),
                crowd=bool(segment.get("iscrowd", 0)),
            )
        except DataError as error:
            quarantine.add(f"{where}, segment {n}", error)


def _images(items: Iterator[Any], file: str, quarantine: Quarantine) -> dict[Id, Any]:
    """What is needed of each image until its annotation comes."""
    wanted = ("file_name", "width", "height")
    return {
        id_: {"file_name": None} | {name: image[name] for name in wanted if name in image}
        for _, id_, image in by_id(items, "id", file, quarantine)
    }


def _stuff(categories: Iterator[Any]) -> set[Id]:
    """Ids of the categories that cannot be counted, such as sky."""
    return {category["id"] for category in categories if not category.get("isthing", 1)}


def _category(segment: Any) -> Any:
    category = segment.get("category_id") if isinstance(segment, dict) else None
    return category if isinstance(category, int | str) else None
