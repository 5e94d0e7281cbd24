"""Judges read a free answer and say what it claims; each is a pure function of the text.

A judge never raises on model output. `VERSION` stands in every score file: raise it whenever a
judge can decide differently than before.
"""

import re
from collections.abc import Sequence

VERSION = "1"

_REFUSAL = re.compile(
    r"\bno such\b|\bthere (?:is|are) (?:no|not)\b|\bthere (?:isn't|aren't)\b"
    r"|\bnot (?:in|present|visible|found)\b|\bno object\b|\bnone\b|\bcannot (?:see|find)\b"
    r"|^\W*no\b",
    re.IGNORECASE,
)
_YES_NO = re.compile(r"(?<!\w)(yes|no|not)(?!\w)", re.IGNORECASE)


def pope_says_yes(text: str) -> bool:
    """POPE's official reading: no if "No", "not" or "no" is a word of the first sentence, else yes.

    An answer that says neither counts as yes; `says_yes` tells how many there are.

    Source: POPE's evaluate.py, which splits at the first stop, drops commas and splits on spaces.
    """
    words = text.split(".", 1)[0].replace(",", "").split(" ")
    return not any(word in ("No", "not", "no") for word in words)


def says_yes(text: str) -> bool | None:
    """True or False by the first "yes", "no" or "not" of the answer; None where there is none."""
    match = _YES_NO.search(text)
    return None if match is None else match[1].lower() == "yes"


def mme_says_yes(text: str) -> bool | None:
    """MME's official reading, of the first four letters: yes, else no, else neither (None).

    An answer such as "I see none" says neither, and "Nothing" says no.

    Source: MME's calculation.py.
    """
    start = text.lower()[:4]
    return True if "yes" in start else False if "no" in start else None


def is_refusal(text: str) -> bool:
    """Whether the answer says that the object is not there."""
    return _REFUSAL.search(text) is not None


def paper_side(text: str, gold: str) -> bool:
    """The paper's judge: right if the gold word occurs in the answer, in any case, anywhere."""
    return gold.lower() in text.lower()


def strict_side(text: str, sides: Sequence[str]) -> str | None:
    """The one side that the answer names, as a whole word; None if it names none or several."""
    pattern = "|".join(re.escape(side) for side in sides)
    found = {word.lower() for word in re.findall(rf"(?<!\w)({pattern})(?!\w)", text, re.IGNORECASE)}
    if len(found) != 1:
        return None
    named = found.pop()
    return next(side for side in sides if side.lower() == named)
