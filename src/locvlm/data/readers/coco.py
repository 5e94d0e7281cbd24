"""Reads COCO-format instances: images with categories and boxes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco_file import CocoFile, Record, read_coco_image
from locvlm.data.readers.fields import check_given, is_id, read_box, shown
from locvlm.data.readers.grouped import Grouped, grouped
from locvlm.data.readers.images import check_folder
from locvlm.errors import ConfigError, DataError
from locvlm.negatives import (
    AdversarialNegatives,
    Negatives,
    PopularNegatives,
    RandomNegatives,
    count_categories,
)
from locvlm.objectives import single_instances
from locvlm.types import Instance, Sample, Size

Strategy: TypeAlias = Literal["random", "popular", "adversarial"]
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
        fix = "add instances=FILE, or benchmark.source.instances=FILE to evaluate"
        check_given(self.instances, "a file of annotations", "instances", fix)
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
        file = CocoFile(str(self.instances), "instances")
        folder = check_folder(self.images)
        names: dict[Any, str] = {}
        with grouped(file.annotations(_FIELDS, quarantine, names)) as annotations:
            draw = self._negatives(annotations, names)
            for image in file.images(self.limit, quarantine):
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
            where = f"{self.instances}, annotation {shown(annotation.get('id'))}"
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


def _shown(annotations: Sequence[Record], names: dict[Any, str]) -> set[str]:
    ids = (annotation.get("category_id") for annotation in annotations)
    return {names[one] for one in ids if is_id(one) and one in names}


def _phrases(image: Record, name: str) -> list[str]:
    phrases = image.get(name) or []
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise DataError(f"{name} is no list of texts", where=f"image {image['id']}")
    return phrases


def _instance(annotation: Record, names: dict[Any, str], size: Size, where: str) -> Instance:
    category = annotation.get("category_id")
    if not is_id(category) or category not in names:
        raise DataError(f"unknown category id: {shown(category)}", where=where)
    description = annotation.get("description")
    return Instance(
        category=names[category],
        box=read_box(annotation.get("bbox"), size, where),
        description=str(description) if description else None,
        crowd=bool(annotation.get("iscrowd", 0)),
    )
