"""The figures of a run as lines of JSON."""

import json
import math

from textual_inversion.system import figure_log
from textual_inversion.system.figure_log import FILE_NAME, FigureLog
from textual_inversion.system.tracking import open_tracker


def test_each_figure_is_a_line_that_others_can_read_at_once(tmp_path):
    log = FigureLog(tmp_path)
    assert not (tmp_path / FILE_NAME).exists()
    log.add("train/loss", 0.25, 10)

    (line,) = (tmp_path / FILE_NAME).read_text().splitlines()
    record = json.loads(line)
    assert (record["step"], record["tag"], record["value"]) == (10, "train/loss", 0.25) and record["time"] > 1e9
    log.close()
    log.close()


def test_what_is_not_finite_is_left_out(tmp_path):
    log = FigureLog(tmp_path)
    for value in (math.nan, math.inf):
        log.add("train/loss", value, 1)
    log.close()
    assert figure_log.read(tmp_path / FILE_NAME) == []


def test_a_resumed_run_replaces_what_comes_from_its_step_on_and_a_new_one_all(tmp_path):
    def steps(resumed_at, *new):
        log = FigureLog(tmp_path, resumed_at)
        for step in new:
            log.add("train/loss", 1.0, step)
        log.close()
        return [one.step for one in figure_log.read(tmp_path / FILE_NAME)]

    assert steps(None, 1, 10, 20, 30) == [1, 10, 20, 30]
    assert steps(20, 20, 40) == [1, 10, 20, 40]
    assert steps(None, 5) == [5]


def test_lines_of_others_and_half_a_line_are_passed_over(tmp_path):
    path = tmp_path / FILE_NAME
    good = '{"step": 1, "tag": "a", "value": 2, "time": 3}\n'
    path.write_text(
        good + '[]\n{}\n{"step": -1, "tag": "a", "value": 1, "time": 1}\nno json\n{"step": "1"}\n' + good[:20]
    )

    assert [one.step for one in figure_log.read(path)] == [1]


def test_a_disk_that_refuses_is_told_once_and_the_run_goes_on(tmp_path, capsys):
    log = FigureLog(tmp_path / "nowhere")
    log.add("a", 1.0, 1)
    log.add("a", 1.0, 2)
    assert capsys.readouterr().err.count("can no longer be written") == 1


def test_the_tracker_of_a_run_writes_them(tmp_path):
    with open_tracker("visualdl", tmp_path) as tracker:
        tracker.scalar("train/loss", 0.5, 3)
    assert [(one.step, one.value) for one in figure_log.read(tmp_path / FILE_NAME)] == [(3, 0.5)]
    with open_tracker("none", tmp_path / "none") as tracker:
        tracker.scalar("train/loss", 0.5, 3)
    assert not (tmp_path / "none").exists()
