"""Figures of a run, written step by step and read again by value."""

import json

from textual_inversion.reporting.figures import FILE_NAME, read_curves
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError
from textual_inversion.system.tracking import open_tracker
from textual_inversion.training.figures_file import FiguresFile


def attempt(write, *arguments):
    write(*arguments)
    return True


def test_every_scalar_that_is_logged_is_in_the_file_a_line_a_step(tmp_path):
    with open_tracker("none", tmp_path / "logs", figures=FiguresFile(tmp_path, attempt)) as tracker:
        tracker.scalar("train/loss", 0.25, 10)
        tracker.scalar("train/learning_rate", 1e-4, 10)
        tracker.scalar("eval/fixed_set_loss", 0.125, 20)
        tracker.scalar("train/loss", float("nan"), 20)
    lines = (tmp_path / FILE_NAME).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 10, "train/loss": 0.25, "train/learning_rate": 1e-4},
        {"step": 20, "eval/fixed_set_loss": 0.125},
    ]
    assert read_curves(tmp_path)["train/loss"] == [(10, 0.25)]


def test_a_resumed_run_keeps_what_was_before_and_a_new_one_nothing(tmp_path):
    (tmp_path / FILE_NAME).write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a": 3}\n')
    resumed = FiguresFile(tmp_path, attempt, resumed_at=2)
    resumed.add(2, "a", 20.0)
    assert read_curves(tmp_path) == {"a": [(1, 1.0), (2, 20.0)]}
    FiguresFile(tmp_path, attempt).add(1, "b", 5.0)
    assert read_curves(tmp_path) == {"b": [(1, 5.0)]}


def test_what_is_no_figure_is_passed_over(tmp_path):
    lines = ['{"step": 1, "a": 1}', "not json", '{"step": -1, "a": 2}', '{"step": true, "a": 2}', "[1]", '{"a": 4}']
    lines += ['{"step": 2, "a": "x", "b": true, "c": null, "d": 1e999}', '{"step": 3, "a": 3', ""]
    (tmp_path / FILE_NAME).write_text("\n".join(lines))
    assert read_curves(tmp_path) == {"a": [(1, 1.0)]}
    assert read_curves(tmp_path / "nowhere") == {}


def test_the_file_is_replaced_rarely_where_that_takes_long_and_always_at_a_flush(tmp_path):
    now, written = [0.0], []

    def slow(write, *arguments):
        now[0] += 1.0
        written.append(now[0])
        return attempt(write, *arguments)

    figures = FiguresFile(tmp_path, slow, clock=lambda: now[0])
    for step in range(1, 40):
        now[0] += 1.0
        figures.add(step, "a", float(step))
    assert len(written) == 1
    figures.flush()
    figures.flush()  # nothing is new
    assert len(written) == 2 and len(read_curves(tmp_path)["a"]) == 39


def test_a_full_disk_is_told_once_until_the_next_flush(tmp_path, monkeypatch):
    told = []

    def refuse(*_):
        raise OutputError("full")

    def saves(write, *arguments):
        try:
            write(*arguments)
        except OutputError as error:
            told.append(str(error))
            return False
        return True

    monkeypatch.setattr(atomic, "write_text", refuse)
    figures = FiguresFile(tmp_path, saves)
    for step in range(5):
        figures.add(step, "a", 1.0)
    assert told == ["full"]
    monkeypatch.undo()
    figures.flush()
    assert len(read_curves(tmp_path)["a"]) == 5
