"""The tables of COCO-format files, each read in a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.fields import Id, shown
from locvlm.data.readers.images import read_image
from locvlm.errors import DataError
from locvlm.json_stream import iter_json
from locvlm.types import Size

Record: TypeAlias = dict[str, Any]
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

    def names(self) -> dict[Any, str]:
        """The name of each category id.

        Raises:
            DataError: a category lacks its id or name, or there is no such table.
        """
        names: dict[Any, str] = {}
        for n, category in enumerate(self._table("categories")):
            if not (
                isinstance(category, dict) and is_id(category.get("id")) and category.get("name")
            ):
                where = f"{self.path}, categories[{n}]"
                raise DataError("category without id and name", where=where)
            names[category["id"]] = str(category["name"])
        return names

    def annotations(
        self, fields: Sequence[str], quarantine: Quarantine
    ) -> Iterator[tuple[Id, Record]]:
        """(image id, the wanted fields that it has) of each annotation.

        Args:
            fields: names of those fields.
            quarantine: of annotations that belong to no image.

        Raises:
            DataError: there is no such table, or the file is malformed.
        """
        for n, annotation in enumerate(self._table("annotations")):
            if isinstance(annotation, dict) and is_id(annotation.get("image_id")):
                wanted = {name: annotation[name] for name in fields if name in annotation}
                yield annotation["image_id"], wanted
            else:
                error = DataError(
                    "annotation without image_id", where=f"{self.path}, annotations[{n}]"
                )
                quarantine.add(f"annotation {n}", error)

    def images(self, limit: int | None, quarantine: Quarantine) -> Iterator[Record]:
        """The images; each has an id of its own and a file_name.

        Args:
            limit: how many are looked at; None is all.
            quarantine: of the others.

        Raises:
            DataError: there is no such table, or the file is malformed.
        """
        seen: set[Id] = set()
        for n, image in enumerate(islice(self._table("images"), limit)):
            where = f"{self.path}, images[{n}]"
            if not (isinstance(image, dict) and is_id(image.get("id")) and "file_name" in image):
                key = str(n)
                if isinstance(image, dict) and is_id(image.get("id")):
                    key = str(image["id"])
                quarantine.add(key, DataError("image record without id and file_name", where=where))
            elif image["id"] in seen:
                error = DataError(f"image id occurs twice: {image['id']}", where=where)
                quarantine.add(str(image["id"]), error)
            else:
                seen.add(image["id"])
                yield image

    def _table(self, name: str) -> Iterator[Any]:
        try:
            yield from iter_json(self.path, f"{name}.item")
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
    stated = (image.get("width", size[0]), image.get("height", size[1]))
    if stated != size:
        raise DataError(
            f"image size differs: {shown(stated[0])} x {shown(stated[1])} in the annotations, "
            f"{size[0]} x {size[1]} in the file",
            where=f"{folder}/{image['file_name']}",
            fix="boxes would be misplaced: annotate this very file",
        )
    return data, size


def is_id(value: Any) -> bool:
    """Whether a value can be an id: whole numbers in COCO, text elsewhere."""
    return isinstance(value, int | str)
