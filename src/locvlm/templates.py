"""Fills templates such as "It is located at {location}." without turning locations into text."""

import re

from locvlm.errors import ConfigError
from locvlm.types import Part

_FIELD = re.compile(r"\{([a-z_]+)\}")


def fill(template: str, **fields: Part) -> tuple[Part, ...]:
    """The parts of `template` with its {fields} replaced; adjacent text is joined.

    Braces in a field's own text are left alone: a caption may hold any character.

    >>> fill("Where is the {category}?", category="cat {tabby}")
    ('Where is the cat {tabby}?',)

    Raises:
        ConfigError: the template asks for a field that is not given.
    """
    parts: list[Part] = []
    end = 0
    for match in _FIELD.finditer(template):
        if match[1] not in fields:
            raise ConfigError(
                f"template asks for {{{match[1]}}}",
                where=repr(template),
                fix=f"use only {', '.join(f'{{{name}}}' for name in sorted(fields))}",
            )
        _append(parts, template[end : match.start()])
        _append(parts, fields[match[1]])
        end = match.end()
    _append(parts, template[end:])
    return tuple(parts)


def fill_text(template: str, **fields: str) -> str:
    """`template` with its {fields} replaced by text.

    >>> fill_text("Is there {article} {category}?", article="an", category="orange")
    'Is there an orange?'

    Raises:
        ConfigError: the template asks for a field that is not given.
    """
    return "".join(str(part) for part in fill(template, **fields))


def _append(parts: list[Part], part: Part) -> None:
    if isinstance(part, str) and parts and isinstance(parts[-1], str):
        parts[-1] += part
    elif part != "":
        parts.append(part)
