"""The time that each phase of a run takes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_IMPORTED = time.monotonic()


def process_seconds() -> float:
    """Seconds since this process began; where the system does not say, since this module was imported."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
        return uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED


class Phases:
    """Seconds per named phase, in the order in which the phases first began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the phase `name`."""
        begin = self._clock()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - begin

    def summary(self) -> str:
        """One line: every phase with its seconds, and their sum."""
        parts = [f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items()]
        return ", ".join([*parts, f"in all {sum(self.seconds.values()):.1f} s"])
