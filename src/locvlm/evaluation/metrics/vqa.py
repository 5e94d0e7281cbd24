"""Agreement of a short answer with the answers of ten people, as VQA measures it."""

import re
from collections.abc import Sequence
from functools import lru_cache

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The official pattern also has what was meant to look behind for a digit and never holds.
_STOP = re.compile(r"\.(?!\d)")
_STOPS = 32  # the official program hands re.UNICODE, which is 32, to an argument that counts
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_ARTICLES = frozenset({"a", "an", "the"})
# Completed when one apostrophe is missing. Capitals, which no lower case word has, are official,
# and so is what is not here: "lets" and "shes" stay as they are.
_CONTRACTIONS = """
'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't
hadn't've hasn't haven't he'd he'd've he's how'd how'll how's I'd've I'm I've isn't it'd it'd've
it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't
she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't what'll
what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll
you're you've
"""
_COMPLETED = {"somebody'd": "somebodyd"} | {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
}


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """How well an answer agrees with people: 1 if three others said it, in each choice of others.

    It is min(1, matches / 3), averaged over the sets that leave one person out. Answers are
    normalized only where the people do not all say the same; then an answer must be theirs to the
    letter, capitals too.

    Args:
        answer: of the model.
        human_answers: of ten people; other numbers are averaged alike.

    Returns:
        0 to 1; for ten people 0, 0.3, 0.6, 0.9 or 1.

    Source: vqaEval.py of GT-Vision-Lab/VQA, for VQA v2.

    >>> vqa_accuracy("Two.", ["2"] * 2 + ["3"] * 8)
    0.6

    Raises:
        ValueError: there are no human answers.
    """
    if not human_answers:
        raise ValueError("there are no human answers to compare with")
    # Each text once: most of ten people say the same.
    given, theirs = _trimmed(answer), {text: _trimmed(text) for text in set(human_answers)}
    if len(set(theirs.values())) > 1:
        given = normalized(given)
        theirs = {text: normalized(trimmed) for text, trimmed in theirs.items()}
    n = len(human_answers)
    matches = sum(human_answers.count(text) for text, said in theirs.items() if said == given)
    # Who said the same sees one match fewer.
    thirds = matches * min(3, max(0, matches - 1)) + (n - matches) * min(3, matches)
    return thirds / (3 * n)


@lru_cache(1 << 17)  # answers repeat: the 2 million of VQA v2's validation are few
def normalized(text: str) -> str:
    """Without punctuation and articles, in lower case, numbers to ten as digits.

    A sign of punctuation becomes a space, or nothing if it stands beside a space anywhere or the
    text has a comma between digits. Stops go unless a digit follows.

    >>> normalized("The dog's two-tone, isnt it?")
    "dog's 2 tone isn't it"
    """
    joins = _COMMA_IN_NUMBER.search(text) is not None
    found = text
    for sign in _PUNCTUATION:
        if sign in text:
            beside = joins or f"{sign} " in text or f" {sign}" in text
            found = found.replace(sign, "" if beside else " ")
    words = _STOP.sub("", found, count=_STOPS).lower().split()
    numbered = (_DIGITS.get(word, word) for word in words)
    return " ".join(_COMPLETED.get(word, word) for word in numbered if word not in _ARTICLES)


@lru_cache(1 << 17)
def _trimmed(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
