"""Reads COCO-format instances: images with categories and boxes."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.errors import DataError
from locvlm.geometry import clip
from locvlm.images import image_size
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


@dataclass(frozen=True, slots=True)
class CocoReader:
    """Samples of a COCO-format data set, one for each image that has annotations.

    Beyond COCO, an annotation may have a `description`, and an image the categories (`absent`)
    and phrases (`absent_descriptions`) that are known not to be in it; elsewhere absent categories
    are drawn from the data set's.

    Args:
        instances: the JSON file: images, annotations, categories.
        images: folder of the image files.
        negatives: how absent categories are chosen: `random`, `popular` or `adversarial`.
        n_negatives: absent categories per image.
        limit: stop after that many images; None reads all.
        seed: of the drawing of negatives.
    """

    instances: str
    images: str
    negatives: Strategy = "random"
    n_negatives: int = 4
    limit: int | None = None
    seed: int = 0

    @property
    def sources(self) -> list[str]:
        return [self.instances]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is no COCO-format JSON, or its image folder is missing.
        """
        data = read_json(self.instances)
        records = _tables(data, self.instances)
        if not Path(self.images).is_dir():
            raise DataError("no such image folder", where=self.images)
        names = {category["id"]: str(category["name"]) for category in records["categories"]}
        annotations: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for n, annotation in enumerate(records["annotations"]):
            if isinstance(annotation, dict) and "image_id" in annotation:
                annotations[annotation["image_id"]].append(annotation)
            else:
                where = f"{self.instances}, annotations[{n}]"
                quarantine.add(str(n), DataError("annotation without image_id", where=where))
        draw = self._negatives(annotations, names)
        images = records["images"][: self.limit]
        for n, image in enumerate(images):
            where = f"{self.instances}, images[{n}]"
            key = str(image.get("id", n)) if isinstance(image, dict) else str(n)
            try:
                if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
                    raise DataError("image record without id and file_name", where=where)
                if image["id"] in annotations:
                    yield self._sample(image, annotations[image["id"]], names, draw, quarantine)
            except DataError as error:
                quarantine.add(key, error)

    def _sample(
        self,
        image: dict[str, Any],
        annotations: list[dict[str, Any]],
        names: dict[Any, str],
        draw: Negatives,
        quarantine: Quarantine,
    ) -> Sample:
        path = Path(self.images) / str(image["file_name"])
        data = read_image(path)
        size = image_size(data, str(path))
        stated = (image.get("width", size[0]), image.get("height", size[1]))
        if stated != size:
            raise DataError(
                f"image size differs: {stated[0]} x {stated[1]} in the annotations, "
                f"{size[0]} x {size[1]} in the file",
                where=str(path),
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
        present = {instance.category for instance in instances}
        absent = [*image.get("absent", ()), *image.get("absent_descriptions", ())]
        if not absent:
            absent = draw(present, Random(f"negatives {self.seed} {key}"), self.n_negatives)
        return Sample(
            key=key,
            source=f"{self.instances}, image {key}",
            image=data,
            size=size,
            instances=tuple(instances),
            absent=tuple(absent),
        )

    def _negatives(
        self, annotations: dict[Any, list[dict[str, Any]]], names: dict[Any, str]
    ) -> Negatives:
        categories = sorted(set(names.values()))
        if self.negatives == "random":
            return RandomNegatives(categories)
        shown = (
            {names[one["category_id"]] for one in group if one.get("category_id") in names}
            for group in annotations.values()
        )
        counts, pairs = count_categories(shown)
        build: dict[str, Callable[[], Negatives]] = {
            "popular": lambda: PopularNegatives(counts),
            "adversarial": lambda: AdversarialNegatives(counts, pairs),
        }
        if self.negatives not in build:
            raise DataError(
                f"no negatives called {self.negatives!r}",
                where="source.negatives",
                fix="choose random, popular or adversarial",
            )
        return build[self.negatives]()


def read_image(path: Path) -> bytes:
    """An image file's bytes.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError("image file is missing", where=str(path)) from None
    except OSError as error:
        raise DataError(f"image file cannot be read: {error}", where=str(path)) from None


def _tables(data: Any, source: str) -> dict[str, list[Any]]:
    wanted = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in wanted):
        raise DataError(
            "not a COCO instances file: it needs the lists images, annotations, categories",
            where=source,
            fix="give a file such as instances_train2017.json",
        )
    return {name: data[name] for name in wanted}


def _instance(
    annotation: dict[str, Any], names: dict[Any, str], size: Size, where: str
) -> Instance:
    if annotation.get("category_id") not in names:
        raise DataError(f"unknown category id: {annotation.get('category_id')}", where=where)
    box = annotation.get("bbox")
    try:
        x, y, width, height = (float(value) for value in box or ())
        whole = Box(x, y, x + width, y + height)
    except (TypeError, ValueError):
        raise DataError(f"bbox is not [x, y, width, height]: {box}", where=where) from None
    if not (width > 0 and height > 0):
        raise DataError(f"box without area: {box}", where=where)
    inside = clip(whole, size)
    if not inside.area > 0:
        raise DataError(f"box outside its image: {box} in {size[0]} x {size[1]}", where=where)
    description = annotation.get("description")
    return Instance(
        category=names[annotation["category_id"]],
        box=inside,
        description=str(description) if description else None,
        crowd=bool(annotation.get("iscrowd", 0)),
    )
