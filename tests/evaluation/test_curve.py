"""The best bargain between likeness and editability, by value."""

import xml.etree.ElementTree as ET

import pytest

from textual_inversion.evaluation.curve import MIX, STEP, Curve, Point, as_json, table
from textual_inversion.reporting.curve_plot import curve_plot

# A made-up word: likeness grows with t, and what else a prompt asks for is lost at the end.
POINTS = [Point(MIX, t, image, text) for t, image, text in
          [(0, 0.2, 0.4), (0.25, 0.4, 0.4), (0.5, 0.6, 0.38), (0.75, 0.8, 0.36), (1, 0.85, 0.12)]]  # fmt: skip


def test_the_recommended_point_has_the_highest_harmonic_mean():
    curve = Curve(POINTS, (0.2, 0.4), 1.0)
    assert [round(curve.likeness(p), 3) for p in POINTS] == [0, 0.25, 0.5, 0.75, 0.812]
    assert [round(curve.editability(p), 3) for p in POINTS] == [1, 1, 0.95, 0.9, 0.3]
    assert curve.balance(POINTS[3]) == pytest.approx(2 * 0.75 * 0.9 / 1.65)
    assert curve.recommended() == POINTS[3]
    assert as_json(curve)["recommended"] == {"kind": MIX, "at": 0.75}
    assert [row.endswith("*") for row in table(curve)] == [False, False, False, False, True, False]


def test_a_word_that_loses_nothing_is_taken_as_it_was_learned():
    curve = Curve([Point(MIX, t, 0.2 + 0.6 * t, 0.4) for t in (0, 0.5, 1)], (0.2, 0.4), None)
    assert curve.recommended().at == 1 and curve.likeness(curve.recommended()) == 1


def test_of_points_that_chance_does_not_tell_apart_the_one_trained_least_is_taken():
    def steps(error):
        return [Point(STEP, step, image, 0.4, image_error=error) for step, image in ((50, 0.70), (100, 0.71))]

    assert Curve(steps(0.001), (0.2, 0.4), 0.8).recommended().at == 100
    assert Curve(steps(0.02), (0.2, 0.4), 0.8).recommended().at == 50


def test_baselines_that_leave_no_room_give_no_division_by_zero():
    curve = Curve([Point(MIX, 1, 0.5, 0.3)], (0.5, 0.0), 0.5)
    assert (curve.likeness(curve.points[0]), curve.editability(curve.points[0])) == (0, 0)
    assert curve.recommended().at == 1


def test_the_picture_has_a_dot_for_each_point_and_a_larger_one():
    root = ET.fromstring(curve_plot(Curve([*POINTS, Point(STEP, 50, 0.5, 0.3)], (0.2, 0.4), 1.0)))
    radii = [circle.get("r") for circle in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert radii.count("3") == 6 and radii.count("6") == 1
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "recommended: 75% of the way" in texts
