"""The words of the built-in world, for a tokenizer that is to know each of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from locvlm.scenes.topics import NUMBERS
from locvlm.scenes.world import World

_FIELD = re.compile(r"\{[a-z_]+\}")
# What code adds to the templates: how objects are counted and listed
_JOINED = "a an and object objects"


def corpus(world: World, sources: Any) -> list[str]:
    """All texts from which conversations about scenes are made, each once, in a fixed order.

    Templates come without their fields: what fills them is in the list as well.

    Args:
        world: shapes and colours.
        sources: all that holds templates, nested as you like: a `Talk`, wordings, prompts.
    """
    counted = NUMBERS[: world.max_objects + 1]
    texts = (*world.shapes, *world.colors, *counted, _JOINED, *strings(sources))
    return sorted({_FIELD.sub(" ", text).strip() for text in texts} - {""})


def strings(value: Any) -> Iterator[str]:
    """All strings in nested dataclasses, mappings and sequences; not the keys."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from strings(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from strings(item)
