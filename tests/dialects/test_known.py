"""Each convention on its own, then what all of them promise."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm import dialects
from locvlm.dialects import Phrase, cogvlm, fractions, kosmos2, llava, molmo, qwen2_5_vl, shikra
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Point

SIZE = (640, 480)
BOX = Box(160, 112, 320, 400)
# How each writes BOX with its name, and what of it comes back.
WORKED = {
    "llava": ("a cat [0.25, 0.3, 0.5, 0.75]", BOX),
    "shikra": ("a cat [0.250,0.300,0.500,0.750]", BOX),
    "fractions": ("a cat [0.250, 0.233, 0.500, 0.833]", Box(160, 111.84, 320, 399.84)),
    "ferret": ("a cat [250, 233, 500, 833]", Box(160, 111.84, 320, 399.84)),
    "cogvlm": ("a cat [[250,233,500,833]]", Box(160, 111.84, 320, 399.84)),
    "deepseek_vl2": (
        "<|ref|>a cat<|/ref|><|det|>[[250, 233, 500, 832]]<|/det|>",
        Box(160.160, 111.952, 320.320, 399.760),
    ),
    "internvl": (
        "<ref>a cat</ref><box>[[250, 233, 500, 833]]</box>",
        Box(160, 111.84, 320, 399.84),
    ),
    "qwen_vl": (
        "<ref>a cat</ref><box>(250,233),(500,833)</box>",
        Box(160, 111.84, 320, 399.84),
    ),
    "qwen2_vl": (
        "<|object_ref_start|>a cat<|object_ref_end|><|box_start|>(250,233),(500,833)<|box_end|>",
        Box(160, 111.84, 320, 399.84),
    ),
    "qwen2_5_vl": (
        '{"bbox_2d": [161, 111, 322, 397], "label": "a cat"}',
        Box(160, 111.933, 320, 400.336),
    ),
    "qwen3_vl": (
        '{"bbox_2d": [250, 233, 500, 833], "label": "a cat"}',
        Box(160, 111.84, 320, 399.84),
    ),
    "paligemma": (
        "a cat <loc0239><loc0256><loc0853><loc0512>",
        Box(160, 112.031, 320, 399.844),
    ),
    "kosmos2": (
        "<phrase>a cat</phrase><object><patch_index_0232><patch_index_0847></object>",
        Box(170, 112.5, 310, 397.5),
    ),
    "molmo": ('<point x="37.5" y="53.3" alt="a cat">a cat</point>', Point(240, 255.84)),
    "nfp": ("a cat [0.2500, 0.2333, 0.5000, 0.8333] bbox", Box(160, 111.984, 320, 399.984)),
    "ivb": ("a cat [56, 52, 112, 187] bbox", Box(160, 111.429, 320, 400.714)),
    "diga": ("a cat [6, 8, 35, 67, 21, 68] bbox", Box(160, 111.429, 320, 400.714)),
}
ALL = {name: getattr(dialects, name)() for name in WORKED}
BOXES_ONLY = ("llava", "cogvlm", "deepseek_vl2", "internvl", "kosmos2", "paligemma")
MARKED = (
    *("deepseek_vl2", "internvl", "kosmos2", "molmo"),
    *("qwen_vl", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
)


@pytest.mark.parametrize("name", WORKED)
def test_writes_and_reads_what_its_project_does(name):
    text, back = WORKED[name]
    dialect = ALL[name]
    assert dialect.write(["I see ", Phrase("a cat"), BOX, "."], SIZE) == f"I see {text}."
    *before, location, after = dialect.read(f"I see {text}.", SIZE)
    assert location == pytest.approx(back, abs=1e-3)
    assert type(location) is type(back)
    assert after == "."
    if name in MARKED:
        assert before == ["I see ", "a cat"]
        assert isinstance(before[1], Phrase)
    else:
        assert before == ["I see a cat "]


def test_every_convention_has_a_config_and_no_config_is_without():
    from locvlm.arguments import option_names

    assert {*WORKED, "swift"} == set(option_names("dialect"))


@pytest.mark.parametrize(
    ("dialect", "text", "n"),
    [
        ("cogvlm", "[[098,370,462,546;676,310,954,429]]", 2),
        ("shikra", "[0.100,0.200,0.300,0.400;0.500,0.600]", 2),
        ("kosmos2", f"<object>{'<patch_index_0000><patch_index_0033>'}"
         "<delimiter_of_multi_objects/><patch_index_0000><patch_index_0099></object>", 2),
        ("deepseek_vl2", "<|det|>[[1, 2, 3, 4], [5, 6, 7, 8]]<|/det|>", 2),
        ("internvl", "<ref>cats</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>", 2),
        ("qwen2_vl", "<|box_start|>(1,2),(3,4)<|box_end|><|box_start|>(5,6)<|box_end|>", 2),
        ("paligemma", f"{'<loc0001><loc0002><loc0003><loc0004>' * 2}", 2),
        ("molmo", '<points x1="1.0" y1="2.0" x2="3.0" y2="4.0" alt="cats">cats</points>', 2),
    ],
)  # fmt: skip
def test_several_locations_share_a_name_or_brackets(dialect, text, n):
    parts = ALL[dialect].read(text, (1000, 1000))
    assert sum(not isinstance(part, str) for part in parts) == n
    assert ALL[dialect].write(parts, (1000, 1000)) == text
    assert ALL[dialect].mentions(text) == n


def test_a_name_without_a_location_keeps_its_mark():
    text = "Find the <ref>sheep</ref> here"
    parts = ALL["qwen_vl"].read(text, SIZE)
    assert parts == ("Find the ", "sheep", " here")
    assert ALL["qwen_vl"].write(parts, SIZE) == text
    assert llava().write(parts, SIZE) == "Find the sheep here"


def test_llava_trims_zeros_as_its_data_does():
    assert llava().write([Box(0, 0, 640, 480)], SIZE) == "[0.0, 0.12, 1.0, 0.88]"


def test_boxes_that_reach_into_the_padding_are_cut_to_the_image():
    assert llava().read("[0.0, 0.0, 1.0, 0.5]", SIZE) == (Box(0, 0, 640, 240),)
    assert llava().read("[0.0, 0.0, 1.0, 0.05]", SIZE) == ("[0.0, 0.0, 1.0, 0.05]",)


def test_fractions_a_little_above_one_are_the_edge():
    assert fractions().read("[0.5, 0.5, 1.006, 1.0]", SIZE) == (Box(320, 240, 640, 480),)
    assert fractions().read("[0.5, 0.5, 1.06, 1.0]", SIZE) == ("[0.5, 0.5, 1.06, 1.0]",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llava", "x = [0, 1, 0, 1]"),
        ("llava", "[0.5, 0.5]"),
        ("llava", "[0.5, 0.5, 0.1, 0.9]"),
        ("shikra", "[0.1,0.2,0.3]"),
        ("ferret", "[10, 20, 30, 1001]"),
        ("ferret", "[0.1, 0.2, 0.3, 0.4]"),
        ("cogvlm", "[100,200,300,400]"),
        ("cogvlm", "[[100,200]]"),
        ("kosmos2", "<object><patch_index_0001></object>"),
        ("kosmos2", "<object><patch_index_0044><patch_index_0040></object>"),
        ("kosmos2", "<object><patch_index_0044><patch_index_1024></object>"),
        ("qwen_vl", "<box>(1,2),(3,4),(5,6)</box>"),
        ("qwen_vl", "<ref></ref><box></box>"),
        ("kosmos2", "<phrase></phrase><object></object>"),
        ("deepseek_vl2", "<|det|>[[1, 2, 3, 4] and]<|/det|>"),
        ("molmo", '<point x="101.0" y="5.0" alt="a">a</point>'),
        ("qwen2_5_vl", '{"bbox_2d": [1, 2, 3, 4], "label": "\\x"}'),
        ("qwen2_5_vl", '{"point_2d": [1, 2, 3, 4]}'),
        ("paligemma", "<loc0001><loc0002><loc0003>"),
        ("paligemma", "<loc0001><loc0002><loc0003><loc1025>"),
        ("paligemma", "<loc0500><loc0002><loc0003><loc0004>"),
        ("ivb", "[4, 52, 13, 63]"),
    ],
)
def test_what_is_no_location_stays_text(name, text):
    assert ALL[name].read(text, SIZE) == (text,)


@pytest.mark.parametrize("name", BOXES_ONLY)
def test_conventions_without_points_say_so(name):
    with pytest.raises(DataError, match="boxes only"):
        ALL[name].write([Point(10, 10)], SIZE)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "box",
    [Box(700, 0, 800, 10), Box(0, 0, float("nan"), 10), Box(30, 0, 10, 10), Box(-9, -9, -1, -1)],
)
def test_boxes_that_are_none_of_the_image_are_refused(name, box):
    with pytest.raises(DataError, match="outside the image|without end|wrong order"):
        ALL[name].write([box], SIZE)


def test_qwen_2_5_takes_no_image_that_is_200_times_as_wide_as_high():
    with pytest.raises(DataError, match="too narrow"):
        qwen2_5_vl().write([Box(0, 0, 1, 1)], (3000, 10))
    text = '{"bbox_2d": [1, 2, 3, 4]}'
    assert qwen2_5_vl().read(text, (3000, 10)) == (text,)


def test_an_unknown_geometry_is_refused():
    with pytest.raises(ConfigError, match="no geometry called 'squash'"):
        fractions(geometry="squash")


def test_half_of_a_box_is_written_where_the_crop_shows_half():
    cropped = dialects.ivb(geometry="crop")
    assert cropped.write([Box(0, 0, 320, 480)], SIZE) == "[0, 0, 112, 224] bbox"
    with pytest.raises(DataError, match="outside"):
        cropped.write([Box(0, 0, 60, 480)], SIZE)


sizes = st.tuples(st.integers(8, 1500), st.integers(8, 1500))
shares = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted)
words = st.text("abc xyz.,!?é\n", max_size=12)
ends = words.map(" {}".format)  # "bbox" and a letter are another word


@pytest.mark.parametrize("name", ALL)
@given(size=sizes, xs=shares, ys=shares, before=words, after=ends)
def test_what_is_written_is_read_within_the_worst_error(name, size, xs, ys, before, after):
    dialect = ALL[name]
    box = Box(xs[0] * size[0], ys[0] * size[1], xs[1] * size[0], ys[1] * size[1])
    want = box.center if name == "molmo" else box
    text = dialect.write([before, box, after], size)
    read = [part for part in dialect.read(text, size) if not isinstance(part, str)]
    error = dialect.worst_error(size)
    assert len(read) == dialect.mentions(text) == 1
    for axis, (got, given_) in enumerate(zip(read[0], want, strict=True)):
        assert abs(got - given_) <= error[axis % 2] + 1e-6
    assert [part for part in dialect.read(text, size) if isinstance(part, str)] == [
        part for part in (before, after) if part
    ]


@pytest.mark.parametrize("name", sorted(set(ALL) - set(BOXES_ONLY)))
@given(size=sizes, x=st.floats(0, 1), y=st.floats(0, 1))
def test_points_are_read_within_the_worst_error(name, size, x, y):
    dialect = ALL[name]
    point = Point(x * size[0], y * size[1])
    [got] = dialect.read(dialect.write([point], size), size)
    assert isinstance(got, Point)
    error = dialect.worst_error(size)
    assert abs(got.x - point.x) <= error[0] + 1e-6
    assert abs(got.y - point.y) <= error[1] + 1e-6


PIECES = st.sampled_from(
    [
        *("[", "]", "[[", "(", ")", ",", ";", ":", '"', "}", "0.5", "12", "999", "-1", "1e9", "x"),
        *("\u0663", " ", " bbox", "<box>", "</box>", "<ref>", "</ref>", "<object>", "</object>"),
        *("<|det|>", "<|/det|>", "<|box_start|>", "<|box_end|>", '{"bbox_2d": [', '"label"'),
        *("<patch_index_0044>", "<delimiter_of_multi_objects/>", "</point>", "</points>"),
        *('<point x="1" y="2" alt="', ' x="5"'),
    ]
)
noise = st.one_of(st.text(), st.lists(PIECES, max_size=25).map("".join))


@pytest.mark.parametrize("name", ALL)
@given(text=noise, size=sizes)
def test_reading_never_raises_and_stays_inside_the_image(name, text, size):
    parts = ALL[name].read(text, size)
    located = [part for part in parts if not isinstance(part, str)]
    assert all(0 <= value <= size[axis % 2] for part in located for axis, value in enumerate(part))
    assert ALL[name].mentions(text) >= len(located)
    if not located and not any(isinstance(part, Phrase) for part in parts):
        assert "".join(parts) == text


HOSTILE = {
    "brackets": "[",
    "double brackets": "[[1,",
    "closed brackets": "[1, 2, 3, 4",
    "names": "<ref>a",
    "boxes": "<box>(1,2)",
    "det": "<|det|>[[1, 2",
    "objects": "<object><patch_index_0001>",
    "patches": "<patch_index_0001>",
    "points": '<point x="1" ',
    "attributes": ' x="1"',
    "json": '{"bbox_2d": [1, 2, 3, 4], "label": "',
    "spaces": " ",
    "backslashes": "\\",
    "digits": "9",
}
STARTS = ["", "[", "<box>(", "<object>", "<points", '{"bbox_2d": [1], "label": "', "<|det|>["]


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_takes_time_in_proportion_to_the_text(unit):
    def seconds(n):
        start = time.process_time()
        for dialect in ALL.values():
            for first in STARTS:
                dialect.read(first + unit * (n // len(unit)), SIZE)
        return time.process_time() - start

    ratios = (seconds(32_000) / max(seconds(2_000), 1e-4) for _ in range(3))
    assert any(ratio < 16 * 5 for ratio in ratios)  # quadratic: 256


def test_real_captions_of_cogvlm_are_read_where_they_are_written(real_data):
    lines = (real_data / "grounded_outputs" / "cogvlm_outputs.jsonl").read_text().splitlines()
    expected = json.loads((real_data / "expected" / "expected.json").read_text())
    answers = {answer["question_id"]: answer["text"] for answer in map(json.loads, lines)}
    for image in expected["grounded_outputs"]:
        size = image["width"], image["height"]
        parts = cogvlm().read(answers[image["image"]], size)
        boxes = [part for part in parts if isinstance(part, Box)]
        wanted = [box["xyxy_pixels_if_divided_by_1000"] for box in image["boxes"]]
        assert [list(box) for box in boxes] == [pytest.approx(box) for box in wanted]
        for box, want in zip(boxes, image["boxes"], strict=True):
            x, y, w, h = want["best_coco_annotation"]["bbox_xywh"]
            found = iou(box, Box(x, y, x + w, y + h))
            assert found == pytest.approx(want["best_coco_annotation"]["iou"], abs=1e-4)
        text = "".join(part for part in parts if isinstance(part, str))
        assert " ".join(text.split()) == image["text_without_boxes"]
        assert cogvlm().write(parts, size) == answers[image["image"]]


def iou(a, b):
    shared = Box(max(a.x1, b.x1), max(a.y1, b.y1), min(a.x2, b.x2), min(a.y2, b.y2)).area
    return shared / (a.area + b.area - shared)


def test_every_box_that_gpt_4_wrote_for_ferret_is_read(real_data):
    n = 0
    for file in sorted((real_data / "ferret_gpt4").rglob("*.jsonl")):
        for line in file.read_text().splitlines():
            text = json.loads(line)["text"]
            parts = fractions().read(text, (1000, 1000))
            boxes = [part for part in parts if isinstance(part, Box)]
            assert len(boxes) == text.count("["), text
            assert all(0 <= value <= 1000 for box in boxes for value in box)
            n += len(boxes)
    assert n > 500


def test_real_conversations_without_coordinates_stay_as_they_are(real_data):
    records = json.loads((real_data / "llava_format" / "blip_laion_cc_sbu_40.json").read_text())
    for record in records:
        for turn in record["conversations"]:
            assert llava().read(turn["value"], SIZE) == (turn["value"],)
            assert shikra().read(turn["value"], SIZE) == (turn["value"],)
            assert molmo().read(turn["value"], SIZE) == (turn["value"],)
            assert kosmos2().read(turn["value"], SIZE) == (turn["value"],)


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [56, 84, 112, 140], "label": "cat"}',
        '{"label": "cat", "bbox_2d": [56, 84, 112, 140]}',
        '{\n\t"label" : "cat",\n\t"bbox_2d": [56.0, 84, 112, 140]\n}',
    ],
)
def test_qwen_objects_may_begin_with_their_label(text):
    assert qwen2_5_vl().read(text, (280, 280)) == ("cat", Box(56, 84, 112, 140))


def test_qwen_objects_that_say_more_stay_text_and_are_mentioned():
    text = '[{"point_2d": [34, 38], "label": "person", "role": "referee", "shirt": "black"}]'
    assert qwen2_5_vl().read(text, (280, 280)) == (text,)
    assert qwen2_5_vl().mentions(text) == 1
