"""Write `figures.jsonl`, the figures of a run step by step; `reporting.figures` says what it holds, and reads it.

Every curve that is logged is in it, whatever `--report_to` is. The file is replaced as a whole, so that no line is ever
half there, and no more often than a fiftieth of the time goes into it. Nothing here imports Paddle.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

from textual_inversion.reporting.figures import FILE_NAME, read_rows
from textual_inversion.system import atomic

_UPDATE_SHARE = 50  # the file is replaced after this many times what that took the last time: 2 % of the time
_DIGITS = 7  # of a float32


class FiguresFile:
    """The figures of a run, by step and name.

    Args:
        folder: of the run.
        attempt: calls its first argument with the others; False where the system refused to write (`Saves.attempt`).
        resumed_at: the step that a resumed run looks at first. Earlier ones stay; None: a new run begins a new file.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        attempt: Callable[..., bool],
        resumed_at: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._path, self._attempt, self._clock = folder / FILE_NAME, attempt, clock
        self._rows = _earlier(self._path, resumed_at)
        self._next_update, self._is_written = -math.inf, False

    def add(self, step: int, name: str, value: float) -> None:
        """Record a figure; one that is NaN or infinite is left out, as JSON has no such number."""
        if not math.isfinite(value):
            return
        self._rows.setdefault(step, {})[name] = float(f"{value:.{_DIGITS}g}")
        self._is_written = False
        if self._clock() >= self._next_update:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        if self._is_written:
            return
        begun = self._clock()
        rows = [{"step": step, **self._rows[step]} for step in sorted(self._rows)]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._is_written = self._attempt(atomic.write_text, self._path, text)
        now = self._clock()
        # On a full disk the next look is at the next checkpoint, not at every figure.
        self._next_update = now + _UPDATE_SHARE * (now - begun) if self._is_written else math.inf


def _earlier(path: Path, resumed_at: int | None) -> dict[int, dict[str, float]]:
    if resumed_at is None:
        return {}
    try:
        return {step: row for step, row in read_rows(path).items() if step < resumed_at}
    except OSError:
        return {}
