import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from locvlm.coordinates import DIGA, IVB, NFP, parse

SCHEMES = [NFP(), IVB(224), DIGA(224)]
BINS = IVB(224)


def bins(text):
    """The locations in `text` as integers of 224 bins."""
    return [BINS.encode(found.values) for found in parse(text, BINS).found]


@pytest.mark.parametrize(
    "text",
    [
        "It is located at [4, 52, 13, 63] bbox.",
        "[4, 52, 13, 63]",
        "(4,52,13,63)bbox",
        "( 4 ,52  13;\n63 ) BBox",
        "[4.0, 52., 13.000, +63] box",
        "[004, 5.2e1, 13, 63]",
        "[[4, 52, 13, 63]]",
        "[4\u00a052 13 63]",
        "the box[4, 52, 13, 63]points to the left",
        "[4, 52, 13, 63] points to the left",
        "[4, 52, 13, 63]\nPoint out the rest.",
        "(see (1x) or [a, b]) [4, 52, 13, 63] [",
    ],
)
def test_reads_a_box_however_it_is_written(text):
    assert bins(text) == [[4, 52, 13, 63]]
    assert parse(text, BINS).status == "ok"


@pytest.mark.parametrize("text", ["[9, 58] point", "(9 58)", "[9.0,58.0]Point"])
def test_two_numbers_are_a_point(text):
    assert bins(text) == [[9, 58]]


def test_reads_several_locations_in_their_order():
    text = "cat at [4, 52, 13, 63] bbox, dog at (9, 58) point."
    assert bins(text) == [[4, 52, 13, 63], [9, 58]]
    assert [text[f.start : f.end] for f in parse(text, BINS).found] == [
        "[4, 52, 13, 63] bbox",
        "(9, 58) point",
    ]


def test_the_scheme_tells_what_the_numbers_mean():
    text = "[0, 4, 2, 5]"
    assert [len(parse(text, scheme).found[0].values) for scheme in (BINS, DIGA(224))] == [4, 2]


def test_reads_fractions():
    [found] = parse("[0.0195, .2344, 5.86e-2, 0.28320000000000001]", NFP()).found
    assert found.values == (0.0195, 0.2344, 0.0586, 0.2832)


def test_reads_negative_deviations():
    [found] = parse("[0, 4, 2, -5] point", DIGA(224)).found
    assert found.values == (9 / 224, 58 / 224)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "no location"),
        ("There is no such object in the image.", "no location"),
        ("[] () [x] (1, 2, three, 4)", "no location"),
        ("4, 52, 13, 63", "no location"),
        ("[\u0664, 52, 13, 63]", "no location"),
        ("It is located at [4, 52, 13", "no location"),
        ("[1, 2, 3]", "wrong count"),
        (f"[{', '.join(map(str, range(50)))}]", "wrong count"),
        ("[4, 52, 13, 225]", "out of range"),
        ("[-4, 52, 13, 63]", "out of range"),
        (f"[4, 52, 13, {'9' * 5000}]", "out of range"),
        ("[4, 52, 13, 1e999]", "out of range"),
        ("[0.0195, 0.2344, 0.0586, 0.2832]", "not integers"),
        ("[13, 52, 4, 63]", "wrong order"),
        ("[4, 63, 13, 52]", "wrong order"),
        ("[4, 52, 13, 63] point", "wrong suffix"),
        ("[9, 58] bbox", "wrong suffix"),
    ],
)
def test_says_why_there_is_no_location(text, status):
    parsed = parse(text, BINS)
    assert parsed.status == status
    assert parsed.found == ()


def test_corners_that_fall_into_one_bin_are_a_location():
    assert bins("[4, 52, 4, 52]") == [[4, 52, 4, 52]]


def test_reports_what_it_rejects_beside_what_it_finds():
    text = "first (7), then [13, 52, 4, 63] bbox, at last [4, 52, 13, 63] bbox"
    parsed = parse(text, BINS)
    assert parsed.status == "ok"
    assert [(r.text, r.reason) for r in parsed.rejected] == [
        ("(7)", "wrong count"),
        ("[13, 52, 4, 63] bbox", "wrong order"),
    ]
    assert all(text[r.start : r.end] == r.text for r in parsed.rejected)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@given(text=st.one_of(st.text(), st.text("[]()0123456789.,;-+e \nbox\u0663\u00b2", max_size=80)))
@example(text="[inf, nan, 1, 2]")
@example(text="[1e400, -1e400, 1, 1]")
@example(text="[\u00b2, \u0663, 1, 1]")
def test_never_raises_and_never_finds_what_is_outside_the_frame(scheme, text):
    parsed = parse(text, scheme)
    assert all(0 <= value <= 1 for found in parsed.found for value in found.values)
    spans = [(part.start, part.end) for part in (*parsed.found, *parsed.rejected)]
    assert all(0 <= start < end <= len(text) for start, end in spans)


HOSTILE = {
    "open brackets": lambda n: "[" * n,
    "open parentheses": lambda n: "(" * n,
    "both brackets": lambda n: "[(" * n,
    "unfinished lists": lambda n: "[1," * n,
    "unfinished locations": lambda n: "[1 2 3 " * n,
    "digits": lambda n: "9" * n,
    "a number without an end": lambda n: "[" + "9" * n,
    "a huge number": lambda n: "[1, 2, 3, " + "9" * n + "]",
    "a number of zeros": lambda n: "[1, 2, 3, " + "0" * n + "4]",
    "a long fraction": lambda n: "[0.1, 0.2, 0.3, 0." + "9" * n + "]",
    "a number that ends in a letter": lambda n: "[" + "9" * n + "x]",
    "a fraction that ends in a letter": lambda n: "[0." + "9" * n + "x]",
    "a long exponent": lambda n: "[1, 2, 3, 4e" + "9" * n + "]",
    "spaces": lambda n: "[" + " " * n,
    "spaces within": lambda n: "[1" + " " * n + "x]",
    "spaces before a suffix": lambda n: "[1, 2]" + " " * n + "x",
    "spaced commas": lambda n: "[" + "1 , " * n + "]",
    "many numbers": lambda n: "[" + "1," * n + "1]",
    "many locations": lambda n: "[1, 2, 3, 4] bbox" * (n // 40),
    "many rejections": lambda n: "[4, 3, 2, 1] bbox" * (n // 40),
    "suffix words": lambda n: "[1, 2] " + "bbox" * n,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_takes_time_in_proportion_to_the_text(name):
    make, n = HOSTILE[name], 8_000
    short, long = make(n), make(16 * n)
    ratios = (seconds(long) / max(seconds(short), 1e-4) for _ in range(3))
    assert any(ratio < 16 * 5 for ratio in ratios)  # a quadratic parser: 256


def seconds(text):
    start = time.process_time()
    parse(text, NFP())
    parse(text, BINS)
    return time.process_time() - start


@pytest.mark.parametrize("name", HOSTILE)
def test_a_million_hostile_characters_do_no_harm(name):
    assert parse(HOSTILE[name](300_000), BINS).status in {
        "ok",
        "no location",
        "wrong count",
        "out of range",
        "wrong order",
        "wrong suffix",
        "not integers",
    }
