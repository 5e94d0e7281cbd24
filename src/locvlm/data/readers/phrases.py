"""Phrases that people wrote about a region, as descriptions that fit into prompts and answers."""

import re

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
