import re
from xml.etree import ElementTree

from locvlm.report.plots import histogram, interval_bar


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
