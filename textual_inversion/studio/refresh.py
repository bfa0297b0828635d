"""How often the page looks at runs again.

Each look costs the machine that trains some hundredths of a second of a processor. A curve that is a tenth longer
looks new; one that is a thousandth longer does not. So a young run is looked at often, and an old one seldom. A run
that is about to begin or to end is looked at most often, since somebody waits for it.
"""

import time
from collections.abc import Iterable

from textual_inversion.studio.runs import RUNNING, Run

PERIODS = (5.0, 10.0, 20.0)  # seconds
_WAITING = 2.0  # seconds
_SHARE = 0.1  # of a run's age


def period(runs: Iterable[Run], now: float | None = None) -> float | None:
    """Seconds until the next look at some runs: as the youngest wants it; None where none is alive.

    Args:
        now: seconds since 1970; None: as the clock says.
    """
    return min((_of_one(run, time.time() if now is None else now) for run in runs if run.is_alive), default=None)


def _of_one(run: Run, now: float) -> float:
    """The longest period below a tenth of a run's age."""
    if run.job is None or run.state != RUNNING:
        return _WAITING
    return max((one for one in PERIODS if one <= _SHARE * (now - run.job.time)), default=PERIODS[0])
