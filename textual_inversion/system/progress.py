"""Where a long loop stands: a bar on a terminal, a plain line every few seconds elsewhere."""

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO


class Progress:
    """Shows how far a loop has come, with its latest figures and the time that is left.

    On a terminal this is one tqdm bar. Where the output goes to a file or a pipe it is a line every `every_seconds`,
    the first and the last step always included:

        step 120/500  loss 0.1234  lr 1.0e-02  0:12 gone, 0:38 left

    Args:
        total: the last step.
        description: the word before the step.
        start: steps that an earlier run has already done; they do not count for the speed.
        stream: where to write.
        every_seconds: shortest time between two plain lines.
        enabled: False on all processes but the first: nothing is shown, not even `write`.
        clock: returns seconds that never go back.
    """

    def __init__(
        self,
        total: int,
        *,
        description: str = "step",
        start: int = 0,
        stream: TextIO | None = None,
        every_seconds: float = 5.0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream = stream if stream is not None else sys.stderr
        self._total, self._start, self._description = total, start, description
        self._every_seconds, self._enabled, self._clock = every_seconds, enabled, clock
        self._begun, self._last_line = clock(), None
        self._bar = self._open_bar() if enabled and _draws_bars(self._stream) else None

    def _open_bar(self):
        from tqdm import tqdm

        return tqdm(
            total=self._total,
            initial=self._start,
            desc=self._description,
            file=self._stream,
            dynamic_ncols=True,
            mininterval=0.2,
            bar_format="{desc} {n_fmt}/{total_fmt} |{bar}| {elapsed} gone, {remaining} left{postfix}",
        )

    def update(self, step: int, **figures: float) -> None:
        """Say that `step` (counted from 1) is done; `figures` such as loss=… and lr=… stand beside it."""
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
        due = self._last_line is None or now - self._last_line >= self._every_seconds
        if not due and step < self._total:
            return
        self._last_line = now
        gone = now - self._begun
        left = gone * (self._total - step) / max(step - self._start, 1)
        parts = [f"{self._description} {step}/{self._total}", text, f"{duration(gone)} gone, {duration(left)} left"]
        self.write("  ".join(part for part in parts if part))

    def write(self, line: str) -> None:
        """Print a line of its own, above the bar where there is one."""
        if not self._enabled:
            return
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            print_line(line, self._stream)

    def close(self) -> None:
        """Leave the bar as it stands; may be called twice."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def print_line(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once, to `sys.stdout` unless told otherwise.

    Output may go to a file on a disk that is full: that is no reason to end a run. Where the reader of a pipe went
    away, BrokenPipeError is raised.
    """
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        pass  # there is no place to say it


def _draws_bars(stream: TextIO) -> bool:
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0  # 0 in some containers: tqdm would draw nothing
    except (OSError, ValueError):  # a terminal without a size or a file number
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
