"""Reads COCO-format instances: images with categories and boxes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import Id, shown
from locvlm.data.readers.grouped import Grouped, grouped
from locvlm.data.readers.images import check_folder, read_image
from locvlm.errors import ConfigError, DataError
from locvlm.geometry import clip
from locvlm.json_stream import iter_json
from locvlm.negatives import (
    AdversarialNegatives,
    Negatives,
    PopularNegatives,
    RandomNegatives,
    count_categories,
)
from locvlm.objectives import single_instances
from locvlm.types import Box, Instance, Sample, Size

Strategy: TypeAlias = Literal["random", "popular", "adversarial"]
Record: TypeAlias = dict[str, Any]
# What is kept of an annotation: polygons are most of a file, and are not needed.
_FIELDS = ("id", "category_id", "bbox", "iscrowd", "description")


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Samples of a COCO-format data set, one for each image.

    Beyond COCO, an annotation may have a `description`, and an image the categories (`absent`)
    and phrases (`absent_descriptions`) that are known not to be in it; elsewhere absent categories
    are drawn from those that the image has no annotation of.

    The file is read in a stream, table by table; meanwhile a temporary file holds the annotations.

    Args:
        instances: the JSON file: images, annotations, categories, in any order.
        images: folder of the image files.
        negatives: how absent categories are chosen: `random`, `popular` or `adversarial`.
        n_negatives: absent categories per image.
        single_instance_only: leave out images without a category that has exactly one instance,
            as the paper's sets do; a crowd counts as many.
        min_area: leave out the only instance of a category where its box is smaller, in square
            pixels. Others stay: they tell that their category is there more than once.
        limit: stop after that many images; None reads all.
        seed: of the drawing of negatives.

    Raises:
        ConfigError: no file is given, or there are no such negatives.
    """

    instances: str | None
    images: str | None
    negatives: Strategy = "random"
    n_negatives: int = 4
    single_instance_only: bool = False
    min_area: float = 0.0
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.instances is None:
            raise ConfigError(
                "a file of annotations is needed",
                where="source.instances",
                fix="add instances=FILE",
            )
        if self.negatives not in ("random", "popular", "adversarial"):
            raise ConfigError(
                f"no negatives called {self.negatives!r}",
                where="source.negatives",
                fix="choose random, popular or adversarial",
            )

    @property
    def sources(self) -> list[str]:
        return [str(self.instances)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no COCO-format JSON, or its image folder is missing.
        """
        file = str(self.instances)
        folder = check_folder(self.images)
        names = _names(read_table(file, "categories"), file)
        with grouped(annotation_rows(file, _FIELDS, quarantine)) as annotations:
            draw = self._negatives(annotations, names)
            for image in image_records(file, self.limit, quarantine):
                group = annotations[image["id"]]
                try:
                    sample = self._sample(folder, image, group, names, draw, quarantine)
                except DataError as error:
                    quarantine.add(str(image["id"]), error)
                    continue
                if self.single_instance_only and not single_instances(sample.instances):
                    quarantine.left_out["image without a single instance"] += 1
                else:
                    yield sample

    def _sample(
        self,
        folder: Path,
        image: Record,
        annotations: Sequence[Record],
        names: dict[Any, str],
        draw: Negatives,
        quarantine: Quarantine,
    ) -> Sample:
        data, size = read_coco_image(folder, image)
        key = str(image["id"])
        instances = []
        for annotation in annotations:
            where = f"{self.instances}, annotation {annotation.get('id', '?')}"
            try:
                instances.append(_instance(annotation, names, size, where))
            except DataError as error:
                quarantine.add(key, error)
        instances = self._large(instances, quarantine)
        if "absent" in image or "absent_descriptions" in image:
            absent = [*_phrases(image, "absent"), *_phrases(image, "absent_descriptions")]
        else:
            # All annotations count: an object whose box is unusable is there all the same.
            present = _shown(annotations, names)
            absent = draw(present, Random(f"negatives {self.seed} {key}"), self.n_negatives)
        return Sample(
            key=key,
            source=f"{self.instances}, image {key}",
            image=data,
            size=size,
            instances=tuple(instances),
            absent=tuple(absent),
            extra={"image": image["file_name"]},  # tells COCO's images, for the audit's leaks
        )

    def _large(self, instances: list[Instance], quarantine: Quarantine) -> list[Instance]:
        single = single_instances(instances)
        small = [one for one in single if one.box.area < self.min_area]
        if small:
            quarantine.left_out["instance smaller than min_area"] += len(small)
        return [one for one in instances if one not in small]

    def _negatives(self, annotations: Grouped, names: dict[Any, str]) -> Negatives:
        if self.negatives == "random":
            return RandomNegatives(sorted(set(names.values())))
        counts, pairs = count_categories(_shown(group, names) for group in annotations.groups())
        if self.negatives == "popular":
            return PopularNegatives(counts)
        return AdversarialNegatives(counts, pairs)


def read_table(file: str, name: str) -> Iterator[Any]:
    """The records of one of the lists of a COCO-format file, in a stream.

    Raises:
        DataError: the file has no such list, or is malformed.
    """
    try:
        yield from iter_json(file, f"{name}.item")
    except DataError as error:
        raise DataError(
            f"not a COCO instances file, or a damaged one: {error.what}",
            where=error.where,
            fix="its lists are images, annotations, categories, as in instances_train2017.json",
        ) from None


def _names(categories: Iterator[Any], source: str) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for n, category in enumerate(categories):
        if not (isinstance(category, dict) and _is_id(category.get("id")) and category.get("name")):
            raise DataError("category without id and name", where=f"{source}, categories[{n}]")
        names[category["id"]] = str(category["name"])
    return names


def annotation_rows(
    file: str, fields: Sequence[str], quarantine: Quarantine
) -> Iterator[tuple[Id, Record]]:
    """(image id, the wanted fields) of each annotation of a COCO-format file.

    Args:
        file: COCO-format JSON.
        fields: names; an annotation may lack some.
        quarantine: of annotations that belong to no image.
    """
    for n, annotation in enumerate(read_table(file, "annotations")):
        if isinstance(annotation, dict) and _is_id(annotation.get("image_id")):
            wanted = {name: annotation[name] for name in fields if name in annotation}
            yield annotation["image_id"], wanted
        else:
            where = f"{file}, annotations[{n}]"
            quarantine.add(f"annotation {n}", DataError("annotation without image_id", where=where))


def image_records(file: str, limit: int | None, quarantine: Quarantine) -> Iterator[Record]:
    """The images of a COCO-format file; each has an id of its own and a file_name.

    Args:
        file: COCO-format JSON.
        limit: how many are looked at; None is all.
        quarantine: of the others.
    """
    seen: set[Any] = set()
    for n, image in enumerate(islice(read_table(file, "images"), limit)):
        where = f"{file}, images[{n}]"
        try:
            _check_image(image, seen, where)
        except DataError as error:
            quarantine.add(str(image.get("id", n)) if isinstance(image, dict) else str(n), error)
        else:
            seen.add(image["id"])
            yield image


def read_coco_image(folder: Path, image: Record) -> tuple[bytes, Size]:
    """The bytes and (width, height) of an image's file.

    Raises:
        DataError: the file is missing, is no image, or of another size than its record states.
    """
    data, size = read_image(folder, image["file_name"])
    stated = (image.get("width", size[0]), image.get("height", size[1]))
    if stated != size:
        raise DataError(
            f"image size differs: {shown(stated[0])} x {shown(stated[1])} in the annotations, "
            f"{size[0]} x {size[1]} in the file",
            where=f"{folder}/{image['file_name']}",
            fix="boxes would be misplaced: annotate this very file",
        )
    return data, size


def _check_image(image: Any, seen: set[Any], where: str) -> None:
    if not (isinstance(image, dict) and _is_id(image.get("id")) and "file_name" in image):
        raise DataError("image record without id and file_name", where=where)
    if image["id"] in seen:
        raise DataError(f"image id occurs twice: {image['id']}", where=where)


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str)


def _shown(annotations: Sequence[Record], names: dict[Any, str]) -> set[str]:
    ids = (annotation.get("category_id") for annotation in annotations)
    return {names[one] for one in ids if _is_id(one) and one in names}


def _phrases(image: Record, name: str) -> list[str]:
    phrases = image.get(name) or []
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise DataError(f"{name} is no list of texts", where=f"image {image['id']}")
    return phrases


def _instance(annotation: Record, names: dict[Any, str], size: Size, where: str) -> Instance:
    category = annotation.get("category_id")
    if not _is_id(category) or category not in names:
        raise DataError(f"unknown category id: {shown(category)}", where=where)
    box = annotation.get("bbox")
    try:
        x, y, width, height = (float(value) for value in box or ())
        whole = Box(x, y, x + width, y + height)
    except (OverflowError, TypeError, ValueError):
        raise DataError(
            f"box without four numbers: {shown(box)}",
            where=where,
            fix="COCO's are [x, y, width, height]",
        ) from None
    if not all(map(math.isfinite, whole)):
        raise DataError(f"box without end: {shown(box)}", where=where)
    if not (width > 0 and height > 0):
        raise DataError(f"box without area: {shown(box)}", where=where)
    inside = clip(whole, size)  # COCO's own boxes overhang by fractions of a pixel
    if not inside.area > 0:
        raise DataError(
            f"box outside its image: {shown(box)} in {size[0]} x {size[1]}", where=where
        )
    description = annotation.get("description")
    return Instance(
        category=names[category],
        box=inside,
        description=str(description) if description else None,
        crowd=bool(annotation.get("iscrowd", 0)),
    )
