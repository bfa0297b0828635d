"""Progress of a long loop: a bar on a terminal, elsewhere a plain line every few seconds. Other lines go above it."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

from textual_inversion.system import streams
from textual_inversion.system.terminal_text import printed

_LINE_SECONDS = 5.0  # shortest time between two plain lines
_open_bars: list = []  # tqdm's, of this process


class Progress:
    """Shows how far a loop has come, its latest figures, and the elapsed and the remaining time.

    On a terminal this is a tqdm bar. If the output goes to a file or a pipe, it is a line every five seconds, always
    including the first and the last step:

        step 120/500  loss 0.1234  lr 1.0e-02  0:12 elapsed, 0:38 remaining

    Args:
        total: the last step.
        description: the label before the step.
        start: steps that an earlier run has already done; they do not count towards the speed.
        stream: where to write; None: stderr.
        enabled: False shows nothing, not even by `write`: for all processes but rank 0.
        clock: monotonic, in seconds.
        begun: when the loop began, by that clock; None: now.
    """

    def __init__(
        self,
        total: int,
        *,
        description: str = "step",
        start: int = 0,
        stream: TextIO | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
        begun: float | None = None,
    ):
        self._stream = stream if stream is not None else sys.stderr
        self._total, self._start, self._description = total, start, description
        self._enabled, self._clock = enabled, clock
        self._begun, self._last_line = clock() if begun is None else begun, None
        self._bar = self._open_bar() if enabled and _draws_bars(self._stream) else None

    def _open_bar(self) -> Any:
        from tqdm import tqdm

        bar = tqdm(
            total=self._total,
            initial=self._start,
            desc=self._description,
            file=self._stream,
            dynamic_ncols=True,
            mininterval=0.2,
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed} elapsed, {remaining} remaining{postfix}",
        )
        bar.start_t -= self._clock() - self._begun
        _open_bars.append(bar)
        return bar

    def update(self, step: int, **figures: float) -> None:
        """Show that `step`, counted from 1, is done, with `figures` such as loss=… and lr=… beside it."""
        if not self._enabled:
            return
        text = "  ".join(f"{name} {_figure(name, value)}" for name, value in figures.items())
        if self._bar is None:
            self._line(step, text)
            return
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update(step - self._bar.n)
        if step >= self._total:
            self._bar.refresh()

    def _line(self, step: int, text: str) -> None:
        now = self._clock()
        due = self._last_line is None or now - self._last_line >= _LINE_SECONDS
        if not due and step < self._total:
            return
        self._last_line = now
        elapsed = now - self._begun
        remaining = elapsed * (self._total - step) / max(step - self._start, 1)
        times = f"{duration(elapsed)} elapsed, {duration(remaining)} remaining"
        parts = [f"{self._description} {step}/{self._total}", text, times]
        self.write("  ".join(part for part in parts if part))

    def write(self, line: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        if self._enabled:
            print_line(line, self._stream)

    def close(self) -> None:
        """Leave the bar on the screen as it is; may be called twice."""
        if self._bar is not None:
            self._bar.close()
        _open_bars[:] = [bar for bar in _open_bars if bar is not self._bar]  # tqdm compares bars by their positions

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LateProgress:
    """Progress of a loop that is mostly over at once: nothing is shown during its first seconds.

    Args:
        total: the last step.
        description: the label before the step.
        stream: where to write; None: stderr.
        enabled: False shows nothing.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        total: int,
        description: str,
        *,
        stream: TextIO | None = None,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._make = partial(Progress, total, description=description, stream=stream, clock=clock, begun=clock())
        self._enabled, self._clock, self._begun = enabled, clock, clock()
        self._done, self._shown = 0, None

    def after(self, result: Any) -> Any:
        """Count one more step, and return its result."""
        self._done += 1
        if self._shown is None and self._enabled and self._clock() - self._begun >= _LINE_SECONDS:
            self._shown = self._make()
        if self._shown is not None:
            self._shown.update(self._done)
        return result

    def __enter__(self) -> "LateProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown is not None:
            self._shown.close()


def print_note(note: str, stream: TextIO | None = None) -> None:
    """Print a note, to `sys.stderr` if no stream is given."""
    print_line(f"note: {note}", sys.stderr if stream is None else stream)


def print_line(line: str, stream: TextIO | None = None, *, is_aligned: bool = False) -> None:
    """Print a line at once, to `sys.stdout` if no stream is given, and above the bars on the same terminal.

    It may hold text from outside: it is shown on one line, without what a terminal would obey (`terminal_text`).
    `is_aligned`: it is the row of a table, whose blanks stay.

    A line that cannot be printed is dropped: that is no reason to end a run. If the reader of a pipe has left, whoever
    listens is told (`streams`).
    """
    stream = sys.stdout if stream is None else stream
    if stream is None:  # closed from the start
        return
    try:
        with _bars_cleared(stream):
            print(printed(line, is_aligned=is_aligned), file=stream, flush=True)
    except BrokenPipeError:
        streams.reader_is_gone()
    except (OSError, ValueError):  # ValueError: closed since
        pass  # there is nowhere to report it


@contextlib.contextmanager
def _bars_cleared(stream: TextIO) -> Iterator[None]:
    """Clear the bars on the terminal of a stream, and draw them again afterwards."""
    with contextlib.ExitStack() as cleared:
        if _open_bars:
            cleared.enter_context(_open_bars[0].external_write_mode(file=stream))  # this clears all of them
        yield


def _draws_bars(stream: TextIO | None) -> bool:
    if stream is None or not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0  # 0 in some containers: tqdm would draw nothing
    except (OSError, ValueError):  # a terminal without a size or a file descriptor
        return True


def duration(seconds: float) -> str:
    """`m:ss`, or `h:mm:ss` from an hour on."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _figure(name: str, value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if name == "lr" or (value and not 1e-3 <= abs(value) < 1e4):
        return f"{value:.1e}"
    return f"{value:.4f}"
