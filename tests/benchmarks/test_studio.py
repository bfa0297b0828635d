"""The arithmetic of the page's benchmark; nothing is timed."""

import pytest

from benchmarks import studio
from benchmarks.runs import BenchmarkError
from textual_inversion.system.figure_log import FigureLog


def test_the_section_holds_the_figures_and_whether_they_are_good_enough():
    times = {False: [1.0, 1.0, 9.0], True: [1.02, 1.0, 1.02]}
    text = studio.section(2.5, {"resident": 250_000_000, "anonymous": 150_000_000}, 20.0, 5.0, times)

    assert text.startswith("## The page in a browser")
    assert "| slowdown of training by an open page, % | ≤ 3.00 | 2.00 | met |" in text
    assert "| from the click to an image with the model loaded, s | ≤ 4.00 | 5.00 | not met |" in text
    assert "| memory of the page's process without a model | 250 MB |" in text


def test_a_step_is_timed_between_the_first_figure_and_the_last(tmp_path, monkeypatch):
    (tmp_path / "logs").mkdir()
    with pytest.raises(BenchmarkError, match="has logged nothing"):
        studio.seconds_of_a_step(tmp_path)
    moments = iter([100.0, 104.5, 109.0])
    monkeypatch.setattr("time.time", lambda: next(moments))
    log = FigureLog(tmp_path / "logs")
    for step in (1, 10, 19):
        log.add("train/loss", 1.0, step)
    log.close()

    assert studio.seconds_of_a_step(tmp_path) == 0.5
