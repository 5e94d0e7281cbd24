import re
from xml.etree import ElementTree

from locvlm.report.plots import forest, histogram, interval_bar, reliability_plot


def test_a_bar_shows_value_interval_and_chance():
    bar = ElementTree.fromstring(interval_bar(0.5, 0.25, 0.75, chance=0.5))
    assert bar.find("circle").get("cx") == "60.0"
    band = next(line for line in bar.findall("line") if line.get("class") == "band")
    assert (band.get("x1"), band.get("x2")) == ("30.0", "90.0")
    assert any(line.get("class") == "tick" for line in bar.findall("line"))


def test_a_bar_without_chance_has_no_tick():
    assert "tick" not in interval_bar(1, 0.9, 1)


def test_a_histogram_colors_bins_by_the_threshold():
    plot = ElementTree.fromstring(histogram([3, 0, 1, 6], 0.5))
    bars = plot.findall("rect")
    assert [bar.get("class") for bar in bars] == ["bad", "bad", "good", "good"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[3] == 2 * heights[0] > heights[1] == 0


def test_an_empty_histogram_is_drawn_as_well():
    assert len(re.findall("<rect", histogram([0, 0], 0.5))) == 2


def test_reliability_shows_each_bin_where_its_confidence_and_accuracy_meet():
    plot = ElementTree.fromstring(reliability_plot([None, (1, 0.25, 0.5), (100, 0.75, 0.75)]))
    few, many = plot.findall("circle")
    assert (few.get("cx"), few.get("cy")) == ("60.0", "120.0")
    assert (many.get("cx"), many.get("cy")) == ("180.0", "60.0")
    assert float(few.get("r")) < float(many.get("r"))
    gaps = [line for line in plot.findall("line") if line.get("class") == "gap"]
    assert [(gap.get("y1"), gap.get("y2")) for gap in gaps] == [
        ("120.0", "180.0"),
        ("60.0", "60.0"),
    ]


def test_a_forest_has_a_row_for_each_name_on_one_axis_around_the_values():
    rows = [("one", 0.42, 0.40, 0.44), ("two", 0.50, 0.48, 0.52), ("published", 0.45, None, None)]
    plot = ElementTree.fromstring(forest(rows))
    dots = [float(dot.get("cx")) for dot in plot.findall("circle")]
    assert dots[0] < dots[2] < dots[1]
    assert len([line for line in plot.findall("line") if line.get("class") == "band"]) == 2
    ticks = [text.text for text in plot.findall("text") if text.get("class") is None]
    assert ticks == ["40", "45", "50", "55"]
    names = [text for text in plot.findall("text") if text.get("class") == "name"]
    assert [name.text for name in names] == ["one", "two", "published"]


def test_a_forest_of_equal_values_has_an_axis_too():
    plot = ElementTree.fromstring(forest([("one", 0.5, 0.5, 0.5), ("two", 0.5, 0.5, 0.5)]))
    x = float(plot.find("circle").get("cx"))
    grid = [float(line.get("x1")) for line in plot.findall("line") if line.get("class") == "grid"]
    assert min(grid) < x < max(grid)


def test_a_long_name_keeps_its_end_and_no_name_is_markup():
    plot = ElementTree.fromstring(forest([("<b>" * 30 + "runs/a/model", 0.5, None, None)] * 2))
    name = plot.find("text[@class='name']")
    assert name.text.startswith("…")
    assert name.text.endswith("runs/a/model")
    assert name.find("title").text.startswith("<b>")
