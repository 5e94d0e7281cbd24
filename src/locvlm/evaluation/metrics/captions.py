"""Descriptions of regions against the annotated names."""

import re
from collections.abc import Iterable

_LEAD = re.compile(r"^(?:there (?:is|are)|it is|this is|that is)\s+", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)


def bare_description(text: str) -> str:
    """An answer without "There is a" and its final stop, in lower case with single spaces.

    >>> bare_description("There is a red circle.")
    'red circle'
    """
    words = " ".join(text.split())
    return _ARTICLE.sub("", _LEAD.sub("", words)).rstrip(" .").lower()


def names_only(text: str, category: str, categories: Iterable[str]) -> bool:
    """Whether `category` is the one of `categories` that `text` names.

    Names are found as whole words, in any case; a longer name hides the shorter ones inside it
    ("hot dog" does not name a dog).

    >>> names_only("There is a hot dog.", "dog", ["dog", "hot dog"])
    False
    """
    return found_names(text, {*categories, category}) == {category.lower()}


def found_names(text: str, names: Iterable[str]) -> set[str]:
    """The `names` that occur in `text` as whole words, in lower case, longer ones first."""
    rest = text.lower()
    found = set()
    for name in sorted({name.lower() for name in names}, key=lambda name: (-len(name), name)):
        pattern = rf"(?<!\w){re.escape(name)}(?!\w)"
        if name in rest and re.search(pattern, rest):
            found.add(name)
            rest = re.sub(pattern, "\n", rest)
    return found
