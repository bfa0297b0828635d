"""How a long loop shows where it stands."""

import contextlib
import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from textual_inversion.system import progress as progress_module
from textual_inversion.system import streams
from textual_inversion.system.progress import LateProgress, Progress, duration, print_line


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(total, seconds_per_step, start=0, **options):
    clock, stream = Clock(), io.StringIO()
    with Progress(total, start=start, stream=stream, clock=clock, **options) as progress:
        for step in range(start + 1, total + 1):
            clock.now += seconds_per_step
            progress.update(step, loss=0.12345, lr=0.01)
    return stream.getvalue().splitlines()


def test_a_plain_line_has_figures_elapsed_and_remaining_time():
    lines = run(100, 2.0)
    assert lines[0] == "step 1/100  loss 0.1235  lr 1.0e-02  0:02 elapsed, 3:18 remaining"
    assert lines[-1] == "step 100/100  loss 0.1235  lr 1.0e-02  3:20 elapsed, 0:00 remaining"


def test_plain_lines_come_every_few_seconds_with_first_and_last_step():
    steps = [int(line.split()[1].split("/")[0]) for line in run(23, 1.0)]
    assert steps == [1, 6, 11, 16, 21, 23]


def test_slow_steps_give_a_line_each():
    assert len(run(4, 60.0)) == 4


def late(seconds_per_step, steps=20, stream=None, **options):
    """What a `LateProgress` shows of a loop."""
    clock, stream = Clock(), stream or io.StringIO()
    with LateProgress(steps, "image", stream=stream, clock=clock, **options) as progress:
        for step in range(steps):
            clock.now += seconds_per_step
            assert progress.after(step) == step
    return stream.getvalue()


def test_a_loop_that_is_soon_over_shows_nothing():
    assert late(0.1) == "" and late(0.1, stream=Terminal()) == "" and late(9.0, enabled=False) == ""


def test_a_loop_that_takes_long_shows_itself_from_then_on_with_times_since_its_beginning():
    assert late(1.0).splitlines() == [
        "image 5/20  0:05 elapsed, 0:15 remaining",
        "image 10/20  0:10 elapsed, 0:10 remaining",
        "image 15/20  0:15 elapsed, 0:05 remaining",
        "image 20/20  0:20 elapsed, 0:00 remaining",
    ]
    shown = screen_of(late(60.0, stream=Terminal()))
    assert shown[0].startswith("image 20/20") and "01:00 elapsed" in shown[0]


def test_steps_of_an_earlier_run_do_not_count_for_the_speed():
    lines = run(100, 10.0, start=90)
    assert lines[0] == "step 91/100  loss 0.1235  lr 1.0e-02  0:10 elapsed, 1:30 remaining"


def test_a_loop_of_one_step_prints_one_line():
    assert len(run(1, 1.0)) == 1


def test_a_line_without_figures():
    stream = io.StringIO()
    Progress(2, description="image", stream=stream, clock=Clock()).update(1)
    assert stream.getvalue() == "image 1/2  0:00 elapsed, 0:00 remaining\n"


@pytest.mark.parametrize(
    "figures, text",
    [
        ({"lr": 5e-4}, "lr 5.0e-04"),
        ({"lr": 0.0}, "lr 0.0e+00"),
        ({"loss": 3.0}, "loss 3.0000"),
        ({"loss": 0.0}, "loss 0.0000"),
        ({"loss": 2e-5}, "loss 2.0e-05"),
        ({"loss": float("nan")}, "loss nan"),
        ({"skipped": 3}, "skipped 3"),
    ],
)
def test_figures_are_short(figures, text):
    stream = io.StringIO()
    Progress(2, stream=stream, clock=Clock()).update(1, **figures)
    assert f"  {text}  " in stream.getvalue()


def test_write_prints_a_line_at_once():
    stream = io.StringIO()
    Progress(5, stream=stream).write("saved a.pdparams")
    assert stream.getvalue() == "saved a.pdparams\n"


def test_processes_but_the_first_are_silent():
    for stream in (io.StringIO(), Terminal()):
        with Progress(2, stream=stream, enabled=False) as progress:
            progress.update(1, loss=1.0)
            progress.update(2, loss=1.0)
            progress.write("line")
        assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_with_the_last_figures():
    stream = Terminal()
    with Progress(20, stream=stream, start=5) as progress:
        for step in range(6, 21):
            progress.update(step, loss=step / 100, lr=0.01)
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("step 20/20 |") and "remaining, loss 0.2000  lr 1.0e-02" in last


def everything_from(control: int) -> str:
    """What was written to a terminal that is closed by now; one read may bring only a part of it."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO: nothing is left
        while part := os.read(control, 10_000):
            shown += part
    return shown.decode()


@pytest.mark.parametrize("columns, bar", [(0, False), (100, True)])
def test_a_terminal_of_no_width_gets_plain_lines(columns, bar):
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with open(terminal, "w") as stream, Progress(1, stream=stream) as progress:
        progress.update(1, loss=0.5)
    shown = everything_from(control)
    os.close(control)
    assert "step 1/1" in shown and "loss 0.5000" in shown and ("|" in shown) is bar


def test_lines_stand_above_the_bar():
    stream = Terminal()
    with Progress(2, stream=stream) as progress:
        progress.update(1, loss=0.5)
        progress.write("saved a.pdparams")
        progress.update(2, loss=0.25)
    shown = [line.split("\r")[-1].strip() for line in stream.getvalue().split("\n")]
    assert shown[0] == "saved a.pdparams" and shown[1].startswith("step 2/2")


def screen_of(text: str) -> list[str]:
    """The lines that a terminal shows after a text with carriage returns and line feeds."""
    lines, row, column = [""], 0, 0
    for letter in text:
        if letter in "\r\n":
            row, column = row + (letter == "\n"), 0
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def test_lines_that_others_print_while_a_bar_is_up_are_not_garbled(monkeypatch):
    """The bar is on stderr, the lines go to stdout: both are one terminal."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(3) as progress:
        for step in (1, 2, 3):
            progress.update(step, loss=0.5)
            print_line(f"x{step}")
            print_line(f"y{step}", sys.stderr)

    *lines, bar, end = screen_of(terminal.getvalue())
    assert lines == [f"{name}{step}" for step in (1, 2, 3) for name in "xy"]
    assert bar.startswith("step 3/3 |") and end == ""
    assert not progress_module._open_bars


def test_a_loop_without_a_bar_may_run_beside_one_with_a_bar():
    terminal, file = Terminal(), io.StringIO()
    with Progress(2, stream=terminal) as bar, Progress(1, stream=file) as plain:
        bar.update(1)
        plain.update(1)
        plain.close()
        bar.write("x")
    assert file.getvalue().startswith("step 1/1") and screen_of(terminal.getvalue())[0] == "x"


def test_close_may_come_twice_and_after_an_error():
    stream = Terminal()
    with pytest.raises(RuntimeError), Progress(2, stream=stream) as progress:
        progress.update(1)
        raise RuntimeError
    progress.close()
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01"), (-1, "0:00")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


class Refusing(io.StringIO):
    """A stream that raises."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "No space left on device"), 0), (ValueError("I/O on closed file"), 0), (BrokenPipeError(), 1)],
)
def test_a_line_that_cannot_be_printed_is_let_go_and_a_lost_reader_is_told(error, told):
    calls = []
    with streams.listening(lambda: calls.append(1)):
        print_line("x", Refusing(error))
    assert len(calls) == told


def test_a_program_without_streams_prints_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    print_line("x")
    with Progress(1) as progress:
        progress.update(1, loss=1.0)
