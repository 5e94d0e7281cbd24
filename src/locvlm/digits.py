"""What a tokenizer makes of the numbers in locations: how many tokens, and which pieces."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from transformers import PreTrainedTokenizerFast

from locvlm.coordinates import Coordinates, write_location
from locvlm.types import Unit

# As answers have it; a location begins after a word and ends before a full stop.
BEFORE, AFTER = "It is located at ", "."
EXAMPLE = Unit((10 / 512, 120 / 512, 30 / 512, 145 / 512))  # the cat of the paper's supplement
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DIGITS = re.compile(r"\d+")


class Piece(NamedTuple):
    """The characters `start` to `end` (exclusive) of a text, which are one token."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Digits:
    """How a tokenizer writes the locations of one scheme.

    Args:
        example: pieces of the example box, as it stands in an answer.
        box_tokens: tokens that a box takes: on average and at most.
        point_tokens: likewise for a point.
        treatment: of the digits that stand together: `one by one`, `together` as one token, or
            `in groups` where neither holds for all.
        merged: pieces in which a number stands together with punctuation or another number; such
            a piece is a token of its own that says nothing of the number in it.
    """

    example: tuple[str, ...]
    box_tokens: tuple[float, int]
    point_tokens: tuple[float, int]
    treatment: str
    merged: tuple[str, ...]


def digits_of(
    tokenizer: PreTrainedTokenizerFast,
    scheme: Coordinates,
    *,
    suffix: bool = True,
    n_samples: int = 500,
) -> Digits:
    """How `tokenizer` writes the locations of `scheme`, found by writing some.

    Args:
        tokenizer: any fast one.
        scheme: writes the numbers.
        suffix: whether " bbox" or " point" follows a location.
        n_samples: boxes and points drawn, the same in every call.
    """
    rng = Random(0)
    boxes = [_box(rng) for _ in range(n_samples)]
    points = [Unit((rng.random(), rng.random())) for _ in range(n_samples)]
    texts = [[write_location(place, scheme, suffix) for place in some] for some in (boxes, points)]
    split = [[pieces_of(tokenizer, text) for text in some] for some in texts]
    numbers = [
        (text, pieces)
        for some, parts in zip(texts, split, strict=True)
        for text, pieces in zip(some, parts, strict=True)
    ]
    counts = [[len(pieces) for pieces in some] for some in split]
    example = pieces_of(tokenizer, write_location(EXAMPLE, scheme, suffix))
    return Digits(
        example=tuple(piece.text for piece in example),
        box_tokens=(sum(counts[0]) / n_samples, max(counts[0])),
        point_tokens=(sum(counts[1]) / n_samples, max(counts[1])),
        treatment=_treatment(numbers),
        merged=tuple(sorted({piece for text, own in numbers for piece in _merged(text, own)})),
    )


def pieces_of(tokenizer: PreTrainedTokenizerFast, location: str) -> list[Piece]:
    """The tokens of a location that stands in an answer; places are those in `location`."""
    text = BEFORE + location + AFTER
    encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    first, last = len(BEFORE), len(BEFORE) + len(location)
    return [
        Piece(text[start:end], start - first, end - first)
        for start, end in encoded.offsets
        if start < last and end > first
    ]


def _box(rng: Random) -> Unit:
    x1, x2 = sorted((rng.random(), rng.random()))
    y1, y2 = sorted((rng.random(), rng.random()))
    return Unit((x1, y1, x2, y2))


def _treatment(numbers: Sequence[tuple[str, Sequence[Piece]]]) -> str:
    """What happens to digits that stand together, over all texts and their pieces."""
    runs = [
        sum(piece.start < run.end() and piece.end > run.start() for piece in pieces) / len(run[0])
        for text, pieces in numbers
        for run in _DIGITS.finditer(text)
        if len(run[0]) > 1
    ]
    if all(share == 1 for share in runs):
        return "one by one"
    whole = all(
        any(piece.start <= run.start() and run.end() <= piece.end for piece in pieces)
        for text, pieces in numbers
        for run in _DIGITS.finditer(text)
    )
    return "together" if whole else "in groups"


def _merged(text: str, pieces: Sequence[Piece]) -> Iterator[str]:
    """Pieces that hold some of a number, and more than that and space."""
    numbers = [range(*found.span()) for found in _NUMBER.finditer(text)]
    for piece in pieces:
        places = [n for n in range(max(0, piece.start), piece.end) if not text[n : n + 1].isspace()]
        homes = {next((own.start for own in numbers if n in own), None) for n in places}
        if len(homes) > 1:
            yield piece.text
