"""Small questions of English that templates and metrics share."""

from collections import Counter
from collections.abc import Iterable


def article(name: str) -> str:
    """The indefinite article before `name`, by its first letter.

    >>> article("orange ring"), article("star")
    ('an', 'a')
    """
    return "an" if name[:1].lower() in set("aeiou") else "a"


def said_once(phrases: Iterable[Iterable[str]]) -> set[str]:
    """The phrases that are said of one object only, whatever their case.

    >>> sorted(said_once([["left cat", "Cat"], ["cat"]]))
    ['left cat']

    Args:
        phrases: what is said of each object of an image.
    """
    groups = [set(group) for group in phrases]
    counts = Counter(word for group in groups for word in {one.casefold() for one in group})
    return {one for group in groups for one in group if counts[one.casefold()] == 1}
