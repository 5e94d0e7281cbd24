import csv
import io

from PIL import Image

from locvlm.report.sweep import NOTE, Run, csv_text, markdown, plot, rows


def metric(value, headline="Acc@0.5, named"):
    return {
        "key": "localization.acc",
        "headline": headline,
        "value": value,
        "low": None if value is None else value - 0.1,
        "high": None if value is None else value + 0.1,
    }


def runs():
    shared = {"+experiment": "small"}
    return [
        Run("a", {**shared, "coordinates": "nfp"}, {"val/loss": 1.5}, [metric(0.25)]),
        Run("b", {**shared, "coordinates": "ivb"}, {"val/loss": 0.5}, [metric(None)]),
        Run("c", {**shared, "coordinates": "diga"}),
    ]


def test_the_table_names_only_what_was_varied():
    titles, body = rows(runs())
    assert titles == ["coordinates", "val/loss", "Acc@0.5, named, %"]
    assert body == [["nfp", "1.5000", "25.0"], ["ivb", "0.5000", "–"], ["diga", "", ""]]


def test_equal_runs_keep_all_their_keys():
    titles, _ = rows(runs()[:1])
    assert titles[:2] == ["+experiment", "coordinates"]


def test_a_key_that_only_some_runs_have_is_left_empty_in_the_others():
    titles, body = rows([Run("a", {"seed": "1"}), Run("b", {})])
    assert (titles, body) == (["seed"], [["1"], [""]])


def test_markdown_escapes_bars_and_warns_about_losses():
    text = markdown("Sweep x", [Run("a", {"run": "a|b"})])
    assert "| a\\|b |" in text
    assert NOTE in text


def test_the_csv_holds_plain_fractions_for_programs():
    first, second, third = csv.DictReader(io.StringIO(csv_text(runs())))
    assert (first["folder"], first["val/loss"], first["localization.acc"]) == ("a", "1.5", "0.25")
    assert (second["localization.acc"], third["val/loss"]) == ("", "")


def test_the_plot_is_a_picture_whatever_is_known():
    for some in (runs(), runs()[2:], [Run("a", {})]):
        picture = Image.open(io.BytesIO(plot(some)))
        assert picture.format == "PNG"
        assert min(picture.size) > 50


def test_the_plot_of_more_panels_goes_on_in_a_second_line():
    one = plot([Run("a", {"seed": "1"}, metrics=[metric(0.5, f"m{n}") for n in range(4)])])
    two = plot([Run("a", {"seed": "1"}, metrics=[metric(0.5, f"m{n}") for n in range(5)])])
    heights = [Image.open(io.BytesIO(data)).height for data in (one, two)]
    assert heights[1] > 1.9 * heights[0]
