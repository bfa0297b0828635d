"""Curves from what a run writes."""

from textual_inversion.studio import charts, curves
from textual_inversion.system.figure_log import Figure, FigureLog


def figures(*entries):
    return [Figure(step, tag, value, moment) for step, tag, value, moment in entries]


def test_a_curve_rises_in_steps_and_of_two_figures_of_a_step_the_last_counts():
    found = curves.of_figures(figures((10, curves.LOSS, 3.0, 5), (1, curves.LOSS, 9.0, 1), (10, curves.LOSS, 2.0, 6),
                                      (0, curves.FIXED, 1.0, 0)))  # fmt: skip

    assert found.points[curves.LOSS] == [(1, 9.0), (10, 2.0)] and found.step == 10
    assert found.last(curves.LOSS) == 2.0 and found.last("nothing") is None


def test_the_time_left_follows_the_pace_of_the_last_steps():
    found = curves.of_figures(figures((0, curves.LOSS, 1, 100), (10, curves.LOSS, 1, 120), (20, curves.LOSS, 1, 140)))

    assert found.remaining(50, now=140) == 60 and found.remaining(50, now=150) == 50
    assert curves.of_figures(figures((1, curves.LOSS, 1, 0))).remaining(50, now=9) is None


def test_a_runs_figures_are_read_from_its_logs(tmp_path):
    (tmp_path / "logs").mkdir()
    log = FigureLog(tmp_path / "logs")
    log.add(curves.LOSS, 0.5, 1)
    assert curves.of_run(tmp_path).points == {curves.LOSS: [(1, 0.5)]}  # while it is written
    log.close()
    assert curves.of_run(tmp_path / "nowhere").points == {}


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
