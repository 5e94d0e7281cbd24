"""Small questions of English that templates and metrics share."""


def article(name: str) -> str:
    """The indefinite article before `name`, by its first letter.

    >>> article("orange ring"), article("star")
    ('an', 'a')
    """
    return "an" if name[:1].lower() in set("aeiou") else "a"
