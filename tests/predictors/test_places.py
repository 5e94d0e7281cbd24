import pytest

from locvlm.dialects import Phrase, fractions, kosmos2, llava, qwen_vl
from locvlm.errors import DataError
from locvlm.predictors.places import decode, locate, written
from locvlm.types import Box, Message, Point, Question, Sample

PHOTO = Sample("photo", "test", image=b"", size=(640, 480))
WORDS = Sample("words", "test")
BOX = Box(160, 112, 320, 400)


def test_a_text_gives_its_locations_in_pixels_of_the_image():
    located = locate(llava(), "A cat [0.25, 0.3, 0.5, 0.75] and no [0, 1].", PHOTO.size)
    assert located.boxes == [BOX]
    assert located.parsed.status == "ok"
    assert located.parsed.found[0].values == pytest.approx((0.25, 112 / 480, 0.5, 400 / 480))
    assert locate(llava(), "There is none.", PHOTO.size).parsed.status == "no location"


def test_points_are_locations_too():
    located = locate(fractions(), "[0.500, 0.500]", PHOTO.size)
    assert located.locations == (Point(320, 240),)
    assert located.boxes == []


def test_a_question_without_an_image_has_no_locations():
    with pytest.raises(DataError, match="without an image"):
        decode(llava(), "[0.25, 0.3, 0.5, 0.75]", Question("a", WORDS, ()))


def test_locations_and_names_of_a_message_are_written_in_the_dialect():
    message = Message("user", ("Is ", Phrase("a cat"), BOX, " red?"))
    tagged = "Is <ref>a cat</ref><box>(250,233),(500,833)</box> red?"
    assert written(qwen_vl(), message, PHOTO) == tagged
    assert written(llava(), message, PHOTO) == "Is a cat [0.25, 0.3, 0.5, 0.75] red?"


def test_words_never_become_special_tokens_but_what_the_dialect_writes_does():
    message = Message("user", ("<ref> or </s>? ", Phrase("<ref>"), BOX))
    text = written(qwen_vl(), message, PHOTO, ["<ref>", "</s>"])
    assert text == "< ref> or < /s>? <ref>< ref></ref><box>(250,233),(500,833)</box>"


def test_half_a_character_is_replaced():
    assert written(llava(), Message("user", ("a \ud83d",)), WORDS) == "a ?"


@pytest.mark.parametrize(
    ("dialect", "parts", "sample", "message"),
    [
        (llava(), ("At ", BOX), WORDS, "without an image"),
        (llava(), (Box(700, 0, 800, 10),), PHOTO, "outside the image"),
        (kosmos2(), (Point(1, 1),), PHOTO, "boxes only"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_name_of_the_sample(
    dialect, parts, sample, message
):
    with pytest.raises(DataError, match=message) as error:
        written(dialect, Message("user", parts), sample)
    assert sample.key in str(error.value)
