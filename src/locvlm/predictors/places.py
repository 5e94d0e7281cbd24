"""Locations in questions and answers, in the dialect of the model that is asked."""

from collections.abc import Collection

from locvlm.coordinates import Found, Parsed
from locvlm.dialects import Dialect, Phrase
from locvlm.dialects.frames import to_unit
from locvlm.errors import DataError
from locvlm.located import Located
from locvlm.types import Message, Part, Question, Sample, Size


def locate(dialect: Dialect, text: str, size: Size) -> Located:
    """The locations in a text about an image of (width, height) `size`, in its pixels."""
    places = tuple(part for part in dialect.read(text, size) if not isinstance(part, str))
    # A dialect does not say which characters a location was read from: somewhere in the text.
    found = tuple(Found(to_unit(place, size, "resize"), 0, len(text)) for place in places)
    return Located(places, Parsed(found, ()))


def decode(dialect: Dialect, text: str, question: Question) -> Located:
    """The locations in an answer, in pixels of the question's image.

    Raises:
        DataError: the question has no image.
    """
    if question.sample.size is None:
        raise DataError("a question without an image has no locations", where=question.key)
    return locate(dialect, text, question.sample.size)


def written(
    dialect: Dialect, message: Message, sample: Sample, specials: Collection[str] = ()
) -> str:
    """A message as text, with its locations as the dialect writes them.

    Args:
        dialect: of the model.
        message: with locations in pixels.
        sample: the image that they lie in.
        specials: tokens that mean something to the model. Where the words of the message spell
            one, a space goes into it; what the dialect writes is left alone.

    Raises:
        DataError: a location stands in a conversation without an image, lies outside of it, or
            cannot be said in the dialect.
    """
    parts = [_neutral(part, specials) for part in message.parts]
    if sample.size is not None:
        try:
            return dialect.write(parts, sample.size)
        except DataError as error:
            raise DataError(error.what, where=sample.where, fix=error.fix) from error
    if all(isinstance(part, str) for part in parts):
        return "".join(map(str, parts))
    raise DataError(
        "a location stands in a conversation without an image",
        where=sample.where,
        fix="give the sample its image, or take the location out",
    )


def _neutral(part: Part, specials: Collection[str]) -> Part:
    if not isinstance(part, str):
        return part
    text = part.encode("utf-8", "replace").decode()  # a surrogate is half a character, no text
    for special in specials:
        if special in text:
            text = text.replace(special, f"{special[0]} {special[1:]}")
    return Phrase(text) if isinstance(part, Phrase) else text
