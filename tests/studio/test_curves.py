"""Curves from what a run writes."""

import json

from textual_inversion.studio import charts, curves


def test_a_runs_figures_are_read_while_they_are_written(tmp_path):
    rows = [{"step": 1, curves.LOSS: 9.0}, {"step": 10, curves.LOSS: 2.0, curves.FIXED: 1.0}]
    (tmp_path / "figures.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows) + '{"step": 11, "tra')

    found = curves.of_run(tmp_path)

    assert found.points[curves.LOSS] == [(1, 9.0), (10, 2.0)] and found.step == 10
    assert found.last(curves.LOSS) == 2.0 and found.last("nothing") is None
    assert curves.of_run(tmp_path / "nowhere").points == {} and curves.of_run(tmp_path / "nowhere").step == 0


def test_the_mean_of_a_constant_is_the_constant():
    assert [value for _, value in curves.smoothed([(i, 2.0) for i in range(5)])] == [2.0] * 5


def test_a_long_curve_is_thinned_and_keeps_its_end():
    points = [(i, float(i)) for i in range(100_001)]
    short = curves.thinned(points)
    assert len(short) <= 400 and short[-1] == points[-1] and short[0] == points[0]
    assert curves.thinned(points[:7]) == points[:7]


def test_a_chart_holds_the_points_under_their_names():
    spec = charts.lines({"<b>": [(1, 2.0)], "c": []}, "step")
    assert spec["data"]["values"] == [{"step": 1, "value": 2.0, "curve": "<b>"}]
    assert spec["encoding"]["color"]["scale"]["domain"] == ["<b>", "c"]
