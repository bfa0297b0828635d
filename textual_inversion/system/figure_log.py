"""The figures of a run as plain text: a line of JSON for each, which any program can read while the run goes on.

    {"step": 10, "tag": "train/loss", "value": 0.0312, "time": 1764160000.5}

A run that is resumed drops the lines from its first step on and writes them again.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.system import atomic, journal
from textual_inversion.system.errors import OutputError
from textual_inversion.system.progress import print_line
from textual_inversion.system.written_files import LOG, of_kind

FILE_NAME = "figures.jsonl"
MOST_BYTES = 64 << 20  # that are read of such a file; half a million figures


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        step: optimizer steps that were done.
        tag: what it is, such as "train/loss".
        time: when it was written, in seconds since 1970.
    """

    step: int
    tag: str
    value: float
    time: float


class FigureLog:
    """Writes the figures of a run. The file is made with the first one.

    Args:
        folder: exists.
        resumed_at: the first step that a resumed run logs; None for a new run.
    """

    def __init__(self, folder: str | os.PathLike[str], resumed_at: int | None = None):
        self._path, self._resumed_at = Path(folder) / FILE_NAME, resumed_at
        self._descriptor: int | None = None
        self._has_failed = False

    def add(self, tag: str, value: float, step: int) -> None:
        """Add a figure; one that is not finite is left out. If that is impossible, one warning says so."""
        if self._has_failed or not math.isfinite(value):
            return
        try:
            if self._descriptor is None:
                self._open()
            line = json.dumps({"step": step, "tag": tag, "value": value, "time": round(time.time(), 3)})
            os.write(self._descriptor, f"{line}\n".encode())
        except (OSError, OutputError) as error:
            self._has_failed = True
            reason = getattr(error, "strerror", None) or error
            print_line(f"warning: {self._path} can no longer be written ({reason}); the run goes on", sys.stderr)

    def close(self) -> None:
        """May be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        kept = [] if self._resumed_at is None else [one for one in read(self._path) if one.step < self._resumed_at]
        with of_kind(LOG):
            atomic.write_text(self._path, "".join(f"{json.dumps(vars(one))}\n" for one in kept))
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))


def read(path: Path) -> list[Figure]:
    """The figures in a file, which another process may be writing; what is none is passed over."""
    return list(_figures(journal.read(path, MOST_BYTES)))


def _figures(records: list[dict]) -> Iterator[Figure]:
    for record in records:
        step, tag, value, moment = (record.get(name) for name in ("step", "tag", "value", "time"))
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if isinstance(tag, str) and isinstance(step, int) and step >= 0:
                yield Figure(step, tag, float(value), float(moment))
