import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.coordinates import DIGA, IVB, NFP, parse, write_location

BOX = (10 / 512, 120 / 512, 30 / 512, 145 / 512)  # the cat of the paper's supplement
CENTRE = (20 / 512, 132.5 / 512)
SCHEMES = [NFP(), NFP(3), IVB(224), IVB(64), DIGA(224), DIGA(64, 8)]
UNIT = st.floats(0, 1)


@pytest.mark.parametrize(
    ("scheme", "box", "point"),
    [
        (NFP(), "[0.0195, 0.2344, 0.0586, 0.2832] bbox", "[0.0391, 0.2588] point"),
        (IVB(224), "[4, 52, 13, 63] bbox", "[9, 58] point"),
        (DIGA(224), "[0, 4, 3, 11, 6, 0] bbox", "[0, 4, 2, -5] point"),
    ],
    ids=str,
)
def test_writes_the_papers_examples(scheme, box, point):
    assert write_location(BOX, scheme) == box
    assert write_location(CENTRE, scheme) == point


def test_leaves_the_suffix_out_on_request():
    assert write_location(BOX, IVB(224), suffix=False) == "[4, 52, 13, 63]"


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(corners=st.tuples(UNIT, UNIT, UNIT, UNIT), suffix=st.booleans(), text=st.text())
def test_what_is_written_is_read_back_exactly(scheme, corners, suffix, text):
    xs, ys = sorted(corners[::2]), sorted(corners[1::2])
    for values in ((xs[0], ys[0], xs[1], ys[1]), (xs[0], ys[0])):
        written = write_location(values, scheme, suffix=suffix)
        answer = f"{text.translate(NO_BRACKETS)} {written}."
        [found] = parse(answer, scheme).found
        assert found.values == scheme.decode(scheme.encode(values))
        assert answer[found.start : found.end] == written


NO_BRACKETS = dict.fromkeys(map(ord, "[]()"))
