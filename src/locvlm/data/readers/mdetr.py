"""Reads MDETR's JSON of RefCOCO, RefCOCO+ and RefCOCOg: one file for each split."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import (
    Id,
    by_id,
    category_names,
    check_given,
    check_size,
    read_box,
    read_id,
    read_text,
)
from locvlm.data.readers.images import check_folder, read_image
from locvlm.data.readers.phrases import description_of
from locvlm.errors import DataError
from locvlm.json_stream import iter_json
from locvlm.text import said_once
from locvlm.types import Box, Instance, Sample, Size

# What MDETR's files of phrase grounding state as `dataset_name`; others have their data set's.
_CAPTIONED = ("flickr", "mixed")


class _Expression(NamedTuple):
    id: Id
    text: str
    stated: dict[str, Any]  # the width and height that it was annotated at


@dataclass(frozen=True, slots=True)
class MdetrReader:
    """Samples of a file of referring expressions, one for each image file.

    MDETR repeats the image for each expression; here one image has all of them, each an instance
    with a unique description. Set aside are expressions with several boxes, and the captions of
    phrase grounding, whose boxes belong to a part of them. The file does not tell what is absent.
    It is read in a stream; its texts and boxes are held.

    Args:
        annotations: such as `finetune_refcoco_train.json`.
        images: folder of the image files (COCO's train2014).
        limit: stop after that many images; None reads all.
        verbatim: descriptions are the expressions word for word, as benchmarks compare them.

    Raises:
        ConfigError: no file is given.
    """

    annotations: str | None
    images: str | None
    limit: int | None = None
    verbatim: bool = False

    def __post_init__(self) -> None:
        fix = "add source.annotations=FILE, or benchmark.source.annotations=FILE to evaluate"
        check_given(self.annotations, "a file of expressions", "annotations", fix)

    @property
    def sources(self) -> list[str]:
        return [str(self.annotations)]

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """Samples in the order of the file; what cannot be used goes into `quarantine`.

        Raises:
            DataError: the file is none of MDETR's, or the image folder is missing.
        """
        file = str(self.annotations)
        folder = check_folder(self.images)
        names = category_names(iter_json(file, "categories.item"), file)
        groups = self._expressions(quarantine)
        boxes: dict[Id, list[Any]] = defaultdict(list)
        items = iter_json(file, "annotations.item")
        for _, id_, item in by_id(items, "image_id", file, quarantine):
            boxes[id_].append({name: item.get(name) for name in ("bbox", "category_id")})
        for n, (name, expressions) in enumerate(groups.items()):
            if n == self.limit:
                return
            try:
                data, size = read_image(folder, name)
            except DataError as error:
                quarantine.add(name, error)
                continue
            referred = []
            for one in expressions:
                where = f"{file}, image {one.id}"
                try:
                    check_size(one.stated, size, where)
                    referred.append(_instance(one, boxes.get(one.id, []), names, size, where))
                except DataError as error:
                    quarantine.add(str(one.id), error)
            yield Sample(
                key=name,
                source=f"{file}, {name}",
                image=data,
                size=size,
                instances=tuple(_marked(referred)),
                extra={"image": name},
            )

    def _expressions(self, quarantine: Quarantine) -> dict[str, list[_Expression]]:
        """The expressions about each image file."""
        file = str(self.annotations)
        groups: dict[str, list[_Expression]] = defaultdict(list)
        for where, id_, image in by_id(iter_json(file, "images.item"), "id", file, quarantine):
            try:
                if image.get("dataset_name") in _CAPTIONED:
                    raise DataError("caption of phrase grounding, no expression", where=where)
                name, text = (read_text(image, key, where) for key in ("file_name", "caption"))
            except DataError as error:
                quarantine.add(str(id_), error)
                continue
            stated = {key: image[key] for key in ("width", "height") if key in image}
            said = text if self.verbatim else description_of(text) or text
            groups[name].append(_Expression(id_, said, stated))
        return groups


def _instance(
    expression: _Expression,
    boxes: Sequence[Any],
    names: dict[Id, str],
    size: Size,
    where: str,
) -> Instance:
    if len(boxes) != 1:
        raise DataError(f"expression with {len(boxes)} boxes", where=where)
    category = read_id(boxes[0], "category_id", where)
    if category not in names:
        raise DataError(f"unknown category id: {category}", where=where)
    return Instance(names[category], read_box(boxes[0]["bbox"], size, where), expression.text)


def _marked(instances: Sequence[Instance]) -> Iterator[Instance]:
    """Each instance once, with the mark of a unique description where it is said of one box."""
    said: dict[Box, list[str]] = defaultdict(list)
    for one in instances:
        said[one.box].append(str(one.description))
    unique = said_once(said.values())
    for one in dict.fromkeys(instances):
        yield replace(one, unique=one.description in unique)
