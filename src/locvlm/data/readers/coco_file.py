"""The tables of COCO-format files, each read in a stream."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import Id, check_size, read_id
from locvlm.data.readers.images import read_image
from locvlm.errors import DataError
from locvlm.json_stream import iter_json, iter_tables
from locvlm.types import Size

Record: TypeAlias = dict[str, Any]
Item = TypeVar("Item")
_TABLES = {"instances": "images, annotations, categories", "captions": "images, annotations"}


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A JSON file of tables, which stand in any order.

    Args:
        path: of the file.
        kind: what its annotations are.
    """

    path: str
    kind: Literal["instances", "captions"]

    def annotations(
        self,
        fields: Sequence[str],
        quarantine: Quarantine,
        names: dict[Any, str] | None = None,
    ) -> Iterator[tuple[Id, Record]]:
        """(image id, the wanted fields that it has) of each annotation.

        Args:
            fields: names of those fields.
            quarantine: of annotations that belong to no image.
            names: is given the name of each category id, so that one pass over the file reads
                both; None where the file has no categories.

        Raises:
            DataError: there is no such table or a second one, a category lacks its id or name, or
                the file is malformed.
        """
        tables = ["images", "annotations"] + ["categories"] * (names is not None)
        counts = Counter[str]()
        for table, item in self._checked(iter_tables(self.path, tables)):
            n = counts[table]
            counts[table] += 1
            where = f"{self.path}, {table}[{n}]"
            if table == "categories" and names is not None:
                names.update([_category(item, where)])
            elif table == "annotations":
                try:
                    image = read_id(item, "image_id", where)
                except DataError as error:
                    quarantine.add(f"annotation {n}", error)
                else:
                    yield image, {name: item[name] for name in fields if name in item}

    def images(self, limit: int | None, quarantine: Quarantine) -> Iterator[Record]:
        """The images; each has an id of its own and a file_name. Comes after `annotations`.

        Args:
            limit: how many are looked at; None is all.
            quarantine: of the others.

        Raises:
            DataError: there is no such table, or the file is malformed.
        """
        seen: set[Id] = set()
        # Nothing behind the images is read again: `annotations` has been there.
        images = self._checked(iter_json(self.path, "images.item", whole=False))
        for n, image in enumerate(islice(images, limit)):
            where = f"{self.path}, images[{n}]"
            key = f"image {n}"
            try:
                id_ = read_id(image, "id", where)
                key = str(id_)
                if "file_name" not in image:
                    raise DataError("record without file_name", where=where)
                if id_ in seen:
                    raise DataError(f"image id occurs twice: {key}", where=where)
            except DataError as error:
                quarantine.add(key, error)
            else:
                seen.add(id_)
                yield image

    def _checked(self, items: Iterator[Item]) -> Iterator[Item]:
        try:
            yield from items
        except DataError as error:
            if isinstance(error.__cause__, OSError):  # no such file
                raise
            raise DataError(
                f"not a COCO {self.kind} file, or a damaged one: {error.what}",
                where=error.where,
                fix=f"its lists are {_TABLES[self.kind]}, as in {self.kind}_train2017.json",
            ) from None


def read_coco_image(folder: Path, image: Record) -> tuple[bytes, Size]:
    """The bytes and (width, height) of an image's file.

    Raises:
        DataError: the file is missing, is no image, or of another size than its record states.
    """
    data, size = read_image(folder, image["file_name"])
    check_size(image, size, f"{folder}/{image['file_name']}")
    return data, size


def _category(category: Any, where: str) -> tuple[Id, str]:
    id_, name = read_id(category, "id", where), category.get("name")
    if not name:
        raise DataError("category without name", where=where)
    return id_, str(name)
