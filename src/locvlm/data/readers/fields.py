"""Fields of annotation records, none of which is taken on trust."""

import math
import re
from collections.abc import Iterator
from reprlib import Repr
from typing import Any, TypeAlias, TypeGuard

from locvlm.data.quarantine import Quarantine
from locvlm.errors import ConfigError, DataError
from locvlm.geometry import clip
from locvlm.types import Box, Size

Id: TypeAlias = int | str
_MAX_ID = 1 << 63
_MAX_ID_LENGTH = 200
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which seeds cannot hold
_SIDE = re.compile(r"\d{1,9}", re.ASCII)
_MAX_TEXT = 10_000  # characters
_REPR = Repr()  # keeps endless or deeply nested values out of messages
_REPR.maxlevel = 3
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 5
_REPR.maxstring = _REPR.maxother = 60


def shown(value: Any) -> str:
    """A value as error messages show it: short, whatever it is."""
    return _REPR.repr(value)


def check_given(value: str | None, what: str, name: str, fix: str) -> None:
    """Refuses a reader without its file.

    Raises:
        ConfigError: `value` is None.
    """
    if value is None:
        raise ConfigError(f"{what} is needed", where=f"source.{name}", fix=fix)


def is_id(value: Any) -> TypeGuard[Id]:
    """Whether a value can be an id: a whole number, or short text that UTF-8 can write.

    >>> is_id(7), is_id("train/7"), is_id(True), is_id(chr(0xD800))
    (True, True, False, False)
    """
    if isinstance(value, str):
        return 0 < len(value) <= _MAX_ID_LENGTH and _SURROGATE.search(value) is None
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MAX_ID


def read_field(record: Any, name: str) -> Any:
    """What a field of a record holds; None where there is none, or where this is no record.

    Raises:
        DataError: `record` is this error, in place of one that `iter_json` could not read.
    """
    if isinstance(record, DataError):
        raise record
    return record.get(name) if isinstance(record, dict) else None


def read_id(record: Any, name: str, where: str) -> Id:
    """The id in a field of a record: a whole number or text.

    Raises:
        DataError: there is none, or it is something else.
    """
    value = read_field(record, name)
    if not is_id(value):
        raise DataError(f"record without {name}", where=where)
    return value


def read_text(record: Any, name: str, where: str) -> str:
    """The text in a field of a record, without space around it.

    Raises:
        DataError: there is none, or it is empty or longer than any phrase.
    """
    value = read_field(record, name)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"record without {name}", where=where)
    if len(value) > _MAX_TEXT:
        raise DataError(f"{name} is too long: {len(value):,} characters", where=where)
    return value.strip()


def read_list(record: Any, name: str, where: str) -> list[Any]:
    """The list in a field of a record.

    Raises:
        DataError: there is none.
    """
    value = read_field(record, name)
    if not isinstance(value, list | tuple):
        raise DataError(f"record without a list of {name}", where=where)
    return list(value)


def read_box(values: Any, size: Size, where: str) -> Box:
    """COCO's [x, y, width, height] as corners, clipped to the image; all in pixels.

    Args:
        values: as they stand in the file.
        size: (width, height) of the image.
        where: for error messages.

    Raises:
        DataError: not four finite numbers, without area, or outside the image.
    """
    numbers = [v for v in values if _is_number(v)] if isinstance(values, list | tuple) else []
    if len(numbers) != 4 or len(values) != 4:
        raise DataError(
            f"box without four numbers: {shown(values)}",
            where=where,
            fix="it is [x, y, width, height]",
        )
    x, y, width, height = map(float, numbers)
    if not (width > 0 and height > 0):
        raise DataError(f"box without area: {shown(values)}", where=where)
    inside = clip(Box(x, y, x + width, y + height), size)  # annotated boxes overhang a little
    if not inside.area > 0:
        raise DataError(f"box outside its image: {shown(values)} in {size}", where=where)
    return inside


def check_size(record: Any, size: Size, where: str) -> None:
    """Makes sure that boxes belong to the image file that was found.

    Args:
        record: may state the `width` and `height` that it was annotated at, also as text, as
            MDETR's files of Flickr30k do.
        size: (width, height) of the file.
        where: for error messages.

    Raises:
        DataError: the sizes differ.
    """
    stated = [_side(record.get(name, size[n])) for n, name in enumerate(("width", "height"))]
    if stated != list(size):
        raise DataError(
            f"image size differs: {shown(stated[0])} x {shown(stated[1])} in the annotations, "
            f"{size[0]} x {size[1]} in the file",
            where=where,
            fix="boxes would be misplaced: annotate this very file",
        )


def _side(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _SIDE.fullmatch(value) else value


def by_id(
    items: Iterator[Any], name: str, file: str, quarantine: Quarantine
) -> Iterator[tuple[str, Id, Any]]:
    """(where, id, record) of the items of a table.

    Args:
        items: as they stand in the file.
        name: of the field that holds the id.
        file: for error messages.
        quarantine: of the items that have none.
    """
    for n, item in enumerate(items):
        where = f"{file}, record {n}"
        try:
            yield where, read_id(item, name, where), item
        except DataError as error:
            quarantine.add(f"record {n}", error)


def category_names(categories: Iterator[Any], file: str) -> dict[Id, str]:
    """The name of each category id of a COCO-format file.

    Raises:
        DataError: a category lacks its id or name.
    """
    names = {}
    for n, category in enumerate(categories):
        where = f"{file}, categories[{n}]"
        names[read_id(category, "id", where)] = read_text(category, "name", where)
    return names


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool | str) and math.isfinite(value)
    except (OverflowError, TypeError):
        return False
