import re
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest

from locvlm.data import Draw, Examples, Quarantine, Shards, Source, write_shards
from locvlm.data.audit import Supervision
from locvlm.data.split_audit import Audit, SourceAudit
from locvlm.data.survey import readable_samples, survey
from locvlm.data.verdict import Finding
from locvlm.images import decode_image
from locvlm.report.audit_page import MOST_TURNS, Shown, card, render_page, samples_to_show
from locvlm.report.draw import COLORS
from locvlm.types import Box, Instance, Message, Point
from tests.data.conftest import annotated, talked
from tests.tiny import make_processor

TURNS = (
    Message("user", ("Is it <b>here</b> ", Box(4, 4, 20, 20.5), "?")),
    Message("assistant", ("No: ", Point(30, 10), " and ", Box(8, 8, 24, 24))),
)


@pytest.fixture
def audit():
    sources = [SourceAudit("data.train.a", "<i>shards</i>", 1.0, survey([annotated(0)]))]
    return Audit("train", sources, Supervision(()))


def has_color(source, color):
    """Whether a picture, given as a data URI, shows a colour."""
    data = b64decode(source.removeprefix("data:image/webp;base64,"))
    pixels = decode_image(data, "page").permute(1, 2, 0).numpy().astype(int)
    wanted = [int(color[n : n + 2], 16) for n in (1, 3, 5)]
    return bool((np.abs(pixels - wanted).sum(axis=-1) < 60).any())


def test_locations_are_numbered_through_the_conversation():
    found = card(Shown(annotated(0), TURNS, "a"))
    (user, question), (assistant, answer) = found.turns
    assert (user, assistant) == ("user", "assistant")
    assert [(piece.number, piece.text) for piece in question] == [
        (None, "Is it <b>here</b> "),
        (1, "4, 4, 20, 20.5"),
        (None, "?"),
    ]
    assert [piece.number for piece in answer] == [None, 2, None, 3]


def test_annotated_boxes_and_those_of_messages_are_drawn_in_their_colours():
    bare = replace(annotated(0), instances=())
    assert not has_color(card(Shown(bare, (), "a")).picture, COLORS["true"])
    assert has_color(card(Shown(annotated(0), (), "a")).picture, COLORS["true"])
    assert has_color(card(Shown(bare, TURNS[:1], "a")).picture, COLORS["asked"])
    assert has_color(card(Shown(bare, TURNS[1:], "a")).picture, COLORS["predicted"])


def test_a_box_of_a_message_shows_between_the_dashes_of_the_same_annotation():
    [instance] = annotated(0).instances
    found = card(Shown(annotated(0), (Message("assistant", (instance.box,)),), "a"))
    assert has_color(found.picture, COLORS["true"])
    assert has_color(found.picture, COLORS["predicted"])


def test_a_long_conversation_is_cut_and_says_so():
    found = card(Shown(talked(0), talked(0).messages * MOST_TURNS, "a"))
    assert len(found.turns) == MOST_TURNS
    assert found.n_left_out == MOST_TURNS


def test_a_picture_that_cannot_be_read_is_said():
    found = card(Shown(replace(annotated(0), image=b"no image"), (), "a"))
    assert found.picture == ""
    assert "not an image" in found.problems[0]
    known = Shown(replace(annotated(0), image=b"no image"), (), "a", found.problems)
    assert len(card(known).problems) == 1


def test_the_page_holds_warnings_figures_and_samples_with_problems_first(audit):
    good, odd = Shown(talked(1), TURNS, "a"), Shown(talked(2), TURNS, "a", ["outside: here"])
    page = render_page(audit, [Finding("look at this", "mend it")], [good, odd])
    places = [page.index(text) for text in ("look at this", "bad samples", "talk 2", "talk 1")]
    assert places == sorted(places)
    assert "outside: here" in page
    assert "Sources of data.train" in page
    assert page.count("data:image/webp;base64,") == 2


def test_the_page_loads_nothing_and_runs_nothing(audit):
    page = render_page(audit, [], [Shown(annotated(0), TURNS, "a")])
    assert re.findall(r"""(?:src|href)=(?!"data:|"#)""", page) == []
    assert "url(" not in page
    assert "://" not in page
    assert "<script" not in page


def test_the_words_of_data_never_become_markup(audit):
    nasty = replace(
        annotated(0),
        key="<i>key</i>",
        instances=(Instance("<i>dog</i>", Box(1, 1, 9, 9)),),
    )
    page = render_page(audit, [Finding("<i>", "<i>")], [Shown(nasty, TURNS, "<i>", ["<i>"])])
    assert "<b>here" not in page
    assert "&lt;b&gt;here" in page
    assert page.count("<i>") == page.count("</i>") == 3  # the numbers of the three locations


def test_samples_with_problems_are_chosen_before_those_that_are_drawn(tmp_path):
    outside = replace(annotated(3), instances=(Instance("circle", Box(0, 0, 99, 20)),))
    damaged = replace(annotated(4), key="damaged one")
    samples = [*map(annotated, range(3)), outside, damaged]
    write_shards(samples, tmp_path, quarantine=Quarantine())
    file = tmp_path / "000000.tar"
    data = bytearray(file.read_bytes())
    data[data.index(b"damaged one")] ^= 255
    file.write_bytes(data)
    examples = Examples([Source(str(tmp_path))], make_processor())
    source = SourceAudit("a", "a", 1.0, survey(readable_samples(Shards(tmp_path))))
    found = Audit("train", [source], Supervision(()))
    draws = [Draw(0, n, turn) for n, turn in ((4, 0), (1, 0), (3, 0), (1, 1), (2, 0))]
    shown = samples_to_show(examples, found, draws)
    assert [one.sample.key for one in shown] == ["image 3", "image 1", "image 2"]
    assert shown[0].problems == ["outside: (0, 0, 99, 20) in 48 x 40 pixels"]
    assert len(samples_to_show(examples, found, draws[:1])) == 1


def test_one_problem_does_not_fill_the_page(tmp_path):
    outside = (Instance("circle", Box(0, 0, 99, 20)),)
    samples = [replace(annotated(n), instances=outside) for n in range(8)] + [annotated(8)]
    write_shards(samples, tmp_path, quarantine=Quarantine())
    examples = Examples([Source(str(tmp_path))], make_processor())
    source = SourceAudit("a", "a", 1.0, survey(readable_samples(Shards(tmp_path))))
    draws = [Draw(0, 8, 0), Draw(0, 7, 0), Draw(0, 6, 0), Draw(0, 5, 0)]
    shown = samples_to_show(examples, Audit("train", [source], Supervision(())), draws)
    assert [one.sample.key[-1] for one in shown] == ["0", "1", "2", "8"]
