import io
import re

import pytest
from PIL import Image

from locvlm.report.compare_page import ORDER, Pair, gallery, plots, render_page
from locvlm.report.compared import benchmark_table
from locvlm.report.html import PER_OUTCOME
from locvlm.report.runs import read_runs
from tests.report.conftest import item, write_run
from tests.report.test_compared_text import PAPER

HOSTILE = "</title><script>alert(3)</script>{{ 7 * 7 }}"


def question(n, outcome="only A right", **more):
    return (
        outcome,
        item(n, "right", 1, **more),
        item(n, "wrong", 0, answer="no <i>idea</i>", **more),
    )


@pytest.fixture
def tables(tmp_path):
    write_run(tmp_path / "a", HOSTILE)
    write_run(tmp_path / "b", "two", scores=[1, 1, 1, 0])
    return [PAPER, benchmark_table(read_runs([tmp_path]))]


def test_the_page_shows_published_tables_own_tables_and_questions(tables):
    page = render_page("Runs", tables, [gallery(Pair("quiz", "one", "two", [question(1)]))])
    for text in ("Published: a paper.", "4.74", "75.0", "65.0 to 85.0", "only A right", "no &lt;i"):
        assert text in page
    assert page.count('class="plot forest"') == 2
    assert page.count("<figure") == 1


def test_the_page_loads_nothing_and_no_text_becomes_markup(tables):
    page = render_page("Runs", tables, [gallery(Pair("quiz", HOSTILE, "two", [question(1)]))])
    assert re.findall(r"""(?:src|href)=(?!"data:|"#)""", page) == []
    assert "url(" not in page
    assert "://" not in page
    assert page.count("<script>") == 1
    assert "<i>" not in page
    assert "49" not in re.findall(r"alert\(3\).{0,30}", page)[0]


def test_one_run_is_no_plot(tmp_path):
    write_run(tmp_path / "a")
    assert plots(benchmark_table(read_runs([tmp_path]))) == []


def test_disagreement_comes_first_and_outcomes_are_counted_in_full():
    questions = [question(n, ORDER[n % 4]) for n in range(80)]
    made = gallery(Pair("quiz", "one", "two", questions))
    assert made.outcomes == [(name, 20) for name in ORDER]
    assert [card.outcome for card in made.cards] == [n for n in ORDER for _ in range(PER_OUTCOME)]
    assert made.cards == gallery(Pair("quiz", "one", "two", questions)).cards


def test_images_are_found_in_the_folders_given_and_marked_by_both(tmp_path):
    Image.new("RGB", (20, 10), "grey").save(tmp_path / "1.png")
    pair = Pair("quiz", "one", "two", [question(1, image="1.png"), question(2, image="2.png")])
    cards = {
        card.a["key"]: card.source for card in gallery(pair, [tmp_path / "no", tmp_path]).cards
    }
    assert cards["part/1"].startswith("data:image/webp;base64,")
    assert cards["part/2"] == ""


def test_an_image_that_leaves_its_folder_or_is_none_is_not_shown(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "text.png").write_text("no image")
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    (tmp_path / "secret.png").write_bytes(buffer.getvalue())
    for name in ("../secret.png", str(tmp_path / "secret.png"), "text.png"):
        pair = Pair("quiz", "one", "two", [question(1, image=name)])
        assert [card.source for card in gallery(pair, [tmp_path / "images"]).cards] == [""]
