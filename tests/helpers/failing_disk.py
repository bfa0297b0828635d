"""Disks that fail at will, for the tests: every step of every atomic save goes through one function."""

import errno
import os
from pathlib import Path

from textual_inversion.system import atomic


class FailingDisk:
    """Counts the steps of saves (create, write, flush, rename, …) and fails at those it is told to.

    Args:
        monkeypatch: pytest's.
        number: the system's error number.
    """

    def __init__(self, monkeypatch, number: int = errno.ENOSPC):
        self.steps, self._number = 0, number
        self.fails = lambda step: False  # whether the step of that number, counted from 0, fails
        monkeypatch.setattr(atomic, "_step", self._step)

    def _step(self, name: str) -> None:
        step, self.steps = self.steps, self.steps + 1
        if self.fails(step):
            raise OSError(self._number, os.strerror(self._number))


def temporary_files(folder: Path) -> list[str]:
    """What unfinished saves have left in a folder and below it."""
    return [path.name for path in folder.rglob("*") if ".tmp-" in path.name]
