"""Reads COCO-format instances: images with categories and boxes."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.images import check_folder, read_image
from locvlm.errors import ConfigError, DataError
from locvlm.geometry import clip
from locvlm.io import read_json
from locvlm.negatives import (
    AdversarialNegatives,
    Negatives,
    PopularNegatives,
    RandomNegatives,
    count_categories,
)
from locvlm.types import Box, Instance, Sample, Size

Strategy: TypeAlias = Literal["random", "popular", "adversarial"]
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Samples of a COCO-format data set, one for each image.

    Beyond COCO, an annotation may have a `description`, and an image the categories (`absent`)
    and phrases (`absent_descriptions`) that are known not to be in it; elsewhere absent categories
    are drawn from those that the image has no annotation of.

    Args:
        instances: the JSON file: images, annotations, categories.
        images: folder of the image files.
        negatives: how absent categories are chosen: `random`, `popular` or `adversarial`.
        n_negatives: absent categories per image.
        limit: stop after that many images; None reads all.
        seed: of the drawing of negatives.

    Raises:
        ConfigError: no file is given, or there are no such negatives.
    """

    instances: str | None
    images: str | None
    negatives: Strategy = "random"
    n_negatives: int = 4
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
        data = _tables(read_json(file), file)
        names = _names(data["categories"], file)
        annotations = _by_image(data["annotations"], file, quarantine)
        draw = self._negatives(annotations, names)
        seen: set[Any] = set()
        for n, image in enumerate(data["images"][: self.limit]):
            where = f"{file}, images[{n}]"
            key = str(image.get("id", n)) if isinstance(image, dict) else str(n)
            try:
                _check_image(image, seen, where)
                seen.add(image["id"])
                group = annotations.get(image["id"], [])
                yield self._sample(folder, image, group, names, draw, quarantine)
            except DataError as error:
                quarantine.add(key, error)

    def _sample(
        self,
        folder: Path,
        image: Record,
        annotations: Sequence[Record],
        names: dict[Any, str],
        draw: Negatives,
        quarantine: Quarantine,
    ) -> Sample:
        data, size = read_image(folder, image["file_name"])
        stated = (image.get("width", size[0]), image.get("height", size[1]))
        if stated != size:
            raise DataError(
                f"image size differs: {stated[0]} x {stated[1]} in the annotations, "
                f"{size[0]} x {size[1]} in the file",
                where=f"{folder}/{image['file_name']}",
                fix="boxes would be misplaced: annotate this very file",
            )
        key = str(image["id"])
        instances = []
        for annotation in annotations:
            where = f"{self.instances}, annotation {annotation.get('id', '?')}"
            try:
                instances.append(_instance(annotation, names, size, where))
            except DataError as error:
                quarantine.add(key, error)
        if "absent" in image or "absent_descriptions" in image:
            absent = [*_phrases(image, "absent"), *_phrases(image, "absent_descriptions")]
        else:
            # All annotations count: an object whose box is unusable is there all the same.
            shown = _shown(annotations, names)
            absent = draw(shown, Random(f"negatives {self.seed} {key}"), self.n_negatives)
        return Sample(
            key=key,
            source=f"{self.instances}, image {key}",
            image=data,
            size=size,
            instances=tuple(instances),
            absent=tuple(absent),
            extra={"image": image["file_name"]},  # tells COCO's images, for the audit's leaks
        )

    def _negatives(self, annotations: dict[Any, list[Record]], names: dict[Any, str]) -> Negatives:
        if self.negatives == "random":
            return RandomNegatives(sorted(set(names.values())))
        counts, pairs = count_categories(_shown(group, names) for group in annotations.values())
        if self.negatives == "popular":
            return PopularNegatives(counts)
        return AdversarialNegatives(counts, pairs)


def _tables(data: Any, source: str) -> dict[str, list[Any]]:
    wanted = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in wanted):
        raise DataError(
            "not a COCO instances file: it needs the lists images, annotations, categories",
            where=source,
            fix="give a file such as instances_train2017.json",
        )
    return {name: data[name] for name in wanted}


def _names(categories: list[Any], source: str) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for n, category in enumerate(categories):
        if not (isinstance(category, dict) and _is_id(category.get("id")) and category.get("name")):
            raise DataError("category without id and name", where=f"{source}, categories[{n}]")
        names[category["id"]] = str(category["name"])
    return names


def _by_image(
    annotations: list[Any], source: str, quarantine: Quarantine
) -> dict[Any, list[Record]]:
    groups: dict[Any, list[Record]] = defaultdict(list)
    for n, annotation in enumerate(annotations):
        if isinstance(annotation, dict) and _is_id(annotation.get("image_id")):
            groups[annotation["image_id"]].append(annotation)
        else:
            where = f"{source}, annotations[{n}]"
            quarantine.add(f"annotation {n}", DataError("annotation without image_id", where=where))
    return groups


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
        raise DataError(f"unknown category id: {category}", where=where)
    box = annotation.get("bbox")
    try:
        x, y, width, height = (float(value) for value in box or ())
        whole = Box(x, y, x + width, y + height)
    except (OverflowError, TypeError, ValueError):
        raise DataError(
            f"box without four numbers: {box}", where=where, fix="COCO's are [x, y, width, height]"
        ) from None
    if not all(map(math.isfinite, whole)):
        raise DataError(f"box without end: {box}", where=where)
    if not (width > 0 and height > 0):
        raise DataError(f"box without area: {box}", where=where)
    inside = clip(whole, size)  # COCO's own boxes overhang by fractions of a pixel
    if not inside.area > 0:
        raise DataError(f"box outside its image: {box} in {size[0]} x {size[1]}", where=where)
    description = annotation.get("description")
    return Instance(
        category=names[category],
        box=inside,
        description=str(description) if description else None,
        crowd=bool(annotation.get("iscrowd", 0)),
    )
