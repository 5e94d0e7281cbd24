import io
import re

import pytest
from PIL import Image

from locvlm.report.html import PER_OUTCOME, galleries, render_page
from tests.report.conftest import item


@pytest.fixture(scope="module")
def photo():
    buffer = io.BytesIO()
    Image.new("RGB", (10, 10), "grey").save(buffer, "PNG")
    return buffer.getvalue()


def test_the_page_shows_numbers_intervals_and_pictures(results, photo):
    page = render_page(results, [item(1, "missed", 0.0)], lambda _: photo)
    assert "runs/x/model on tiny" in page
    assert "75.0" in page
    assert "65.0 to 85.0" in page
    assert "Right answers" in page
    assert page.count("data:image/webp;base64,") == 1
    assert page.count('<svg class="plot"') == 1


def test_the_page_loads_nothing(results, photo):
    page = render_page(results, [item(1, "missed", 0.0)], lambda _: photo)
    assert re.findall(r"""(?:src|href)=(?!"data:|"#)""", page) == []
    assert "url(" not in page
    assert "://" not in page


def test_a_models_words_never_become_markup(results, photo):
    page = render_page(results, [item(1, "<i>odd</i>", 0.0)], lambda _: photo)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<b>dog</b>" not in page
    assert "<i>odd" not in page
    assert page.count("<script>") == 1


def test_failures_come_first_and_outcomes_are_counted_in_full(photo):
    items = [item(n, "found", 0.9) for n in range(30)] + [item(n, "missed", 0.1) for n in (40, 41)]
    [gallery] = galleries(items, lambda _: photo)
    assert gallery.outcomes == [("missed", 2), ("found", 30)]
    assert [card.item["outcome"] for card in gallery.cards] == (
        ["missed"] * 2 + ["found"] * PER_OUTCOME
    )
    assert gallery.total == 32


def test_within_an_outcome_the_worst_comes_first(photo):
    items = [item(n, "found", score) for n, score in enumerate((0.9, 0.5, 0.7))]
    [gallery] = galleries(items, lambda _: photo)
    assert [card.item["score"] for card in gallery.cards] == [0.5, 0.7, 0.9]


def test_items_without_a_group_are_in_no_gallery(photo):
    assert galleries([item(1, "right", 1.0, group="")], lambda _: photo) == []


def test_an_item_without_an_image_is_shown_by_its_words(results):
    page = render_page(results, [item(1, "missed", 0.0)], lambda _: None)
    assert "<img" not in page
    assert "missed" in page


def test_closed_answers_show_how_sure_they_were_and_what_was_said_for_what(results):
    items = [
        item(1, "right", 1.0, wanted="yes", said="yes", confidence=0.9),
        item(2, "false yes", 0.0, wanted="<no>", said="yes", confidence=0.7),
    ]
    page = render_page(results, items, lambda _: None)
    assert "Expected calibration error: 40.0 %" in page
    assert page.count('class="plot square"') == 1
    assert page.count('<table class="confusion">') == 1
    assert "&lt;no&gt;</th>" in page


def test_files_of_before_have_no_such_plots(results):
    page = render_page(results, [item(1, "missed", 0.0)], lambda _: None)
    assert 'class="plot square"' not in page
    assert '<table class="confusion">' not in page


def test_one_part_needs_no_name_and_several_have_theirs(results):
    page = render_page(results, [], lambda _: None)
    assert "<h2>Results</h2>" in page
    metrics = [*results["metrics"], results["metrics"][0] | {"key": "sides.row.accuracy"}]
    page = render_page(results | {"metrics": metrics}, [], lambda _: None)
    assert "<h2>Part</h2>" in page
    assert "<h2>Sides</h2>" in page


def test_notes_stand_above_all_tables(results):
    page = render_page(results | {"notes": ["3 of <9> images leaked"]}, [], lambda _: None)
    assert page.index("3 of &lt;9&gt; images leaked") < page.index("<h2>")


def test_the_same_results_give_the_same_page(results, photo):
    items = [item(n, "missed", 0.0) for n in range(20)]
    assert render_page(results, items, lambda _: photo) == render_page(
        results, items, lambda _: photo
    )


def test_a_large_photo_is_embedded_small(results):
    buffer = io.BytesIO()
    Image.effect_noise((3000, 2000), 90).convert("RGB").save(buffer, "JPEG", quality=95)
    page = render_page(results, [item(1, "missed", 0.0)], lambda _: buffer.getvalue())
    assert len(page) < 250_000


def test_a_number_from_too_few_images_for_an_interval_stands_without_a_bar(results):
    before = render_page(results, [], lambda image: None).count('class="bar"')
    metric = results["metrics"][0]
    metric |= {"low": None, "high": None}
    page = render_page(results, [], lambda image: None)
    assert page.count('class="bar"') < before
    assert f"{100 * metric['value']:.1f}" in page
