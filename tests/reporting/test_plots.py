"""Curves as SVG: where points are, what is escaped, how much is drawn."""

import math
import re
import xml.etree.ElementTree as ET

from textual_inversion.reporting.plots import HEIGHT, WIDTH, Series, plot

NS = "{http://www.w3.org/2000/svg}"


def test_points_are_where_their_values_are():
    root = ET.fromstring(plot([Series("a", [(0, 0.0), (50, 0.5), (100, 1.0)])]))
    (line,) = root.iter(f"{NS}polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert points == [(64.0, 240.0), (344.0, 127.0), (624.0, 14.0)]
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    labels = [text.text for text in root.iter(f"{NS}text")]
    assert [x for x in labels if x in ("0", "20", "40", "60", "80", "100")] == ["0", "0", "20", "40", "60", "80", "100"]


def test_texts_are_escaped_and_nothing_is_drawn_of_nothing():
    hostile = "</svg><script>alert(1)</script>\x1b[31m"
    drawn = plot([Series(hostile, [(0, 1)], [hostile]), Series("b", [(1, 2)])], x_label=hostile, is_file=True)
    assert "<script" not in drawn and "\x1b" not in drawn and ET.fromstring(drawn) is not None
    assert plot([Series("a", [])]) == "" and plot([]) == ""


def test_flat_huge_and_long_curves_stay_small_and_finite():
    flat = plot([Series("a", [(5, 2.0)])])
    huge = plot([Series("a", [(0, -1e300), (1, 1e300)])])
    long = plot([Series("a", [(x, math.sin(x)) for x in range(100_000)])])
    for drawn in (flat, huge, long):
        assert "nan" not in drawn and "inf" not in drawn and len(drawn) < 20_000
    places = re.search(r'points="([^"]*)"', long)[1].split()
    assert len(places) == 500 and places[0].startswith("64.0,")


def test_the_legend_of_one_curve_beside_an_empty_one_stands_above_the_frame():
    root = ET.fromstring(plot([Series("a", []), Series("b", [(0, 0.0), (9, 1.0)])]))
    (line,) = root.iter(f"{NS}polyline")
    top = min(float(pair.split(",")[1]) for pair in line.get("points").split())
    (legend,) = [text for text in root.iter(f"{NS}text") if text.text == "b"]
    assert top - float(legend.get("y")) > 18
