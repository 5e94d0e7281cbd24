"""Phrases that people wrote about a region, as descriptions that fit into prompts and answers."""

import re
from collections import Counter
from collections.abc import Iterable

_ARTICLE = re.compile(r"^(?:the|an?)\s+", re.IGNORECASE)
_SENTENCE = re.compile(r"^(?P<noun>\w+(?: \w+)?) (?P<verb>is|are) (?P<rest>\w.*)$", re.IGNORECASE)
_RELATIVE = {"that", "which", "who", "this", "there", "it", "he", "she", "they", "these", "those"}


def description_of(phrase: str) -> str:
    """A phrase in the form of the paper's descriptions: "{category} that is {rest}".

    The article in front and the final stop go, because "There is a {description}." brings both.

    >>> description_of("The clock is green."), description_of(" a man  in red")
    ('clock that is green', 'man in red')

    Source: LocVLM, CVPR 2024, pseudo-data.
    """
    bare = _ARTICLE.sub("", " ".join(phrase.split())).rstrip(" .").strip()
    match = _SENTENCE.match(bare)
    if match and not _RELATIVE & set(match["noun"].lower().split()):
        return f"{match['noun']} that {match['verb']} {match['rest']}"
    return bare


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
