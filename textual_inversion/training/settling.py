"""Whether the loss on the fixed set has stopped falling: the test of `--stop_when_settled`.

The training loss is noise: it says mostly which timesteps were drawn. The loss on a fixed set is informative (arXiv
2302.04841), and its samples are paired: the same image, timestep and noise at every evaluation. So of each sample the
mean loss over the last `patience` evaluations is compared with that over as many evaluations before them:

    d_j = mean of sample j over the older window - mean over the newer one

The loss is still falling if the mean of d is above zero by a one-sided paired t-test at 5 %, and is more than 2 % of
the whole fall since step 0. Otherwise it has settled.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

ERROR_RATE = 0.05
LEAST_SHARE = 0.02  # of the whole fall so far; a smaller fall in a window is not worth its steps


class Settling:
    """Follows the losses of the fixed set's samples.

    Args:
        patience: evaluations in each of the two windows.
        warmup_steps: evaluations up to this step do not count: the rate is still rising there.
        seen: step, as text -> loss of each sample, of the evaluations so far; it is kept up to date, so that a
            checkpoint can hold it. Only what later tests need stays in it: the first evaluation and two windows.
    """

    def __init__(self, patience: int, warmup_steps: int, seen: dict[str, list[float]]):
        self._patience, self._warmup, self._seen = patience, warmup_steps, seen

    def see(self, step: int, losses: Sequence[float]) -> bool:
        """Take the losses of an evaluation; whether they have settled. A step that is seen again replaces itself."""
        for key in [key for key, known in self._seen.items() if len(known) != len(losses) or not key.isdecimal()]:
            del self._seen[key]  # of another fixed set: a checkpoint's, whose run had other settings
        self._seen[str(step)] = [float(loss) for loss in losses]
        later = sorted((int(key) for key in self._seen if int(key)), reverse=True)
        for early in later[2 * self._patience :]:
            del self._seen[str(early)]
        counted = [each for each in later[: 2 * self._patience] if each > self._warmup]
        if len(counted) < 2 * self._patience:
            return False
        windows = np.array([self._seen[str(each)] for each in counted])  # (2 P, samples), the newest first
        newer, older = windows[: self._patience].mean(axis=0), windows[self._patience :].mean(axis=0)
        first = np.array(self._seen["0"]) if "0" in self._seen else older
        return not is_falling(older, newer, first)


def is_falling(older: np.ndarray, newer: np.ndarray, first: np.ndarray) -> bool:
    """Whether the loss still falls from one window to the next, by the test above.

    Args:
        older, newer: mean loss of each sample over a window: float [samples].
        first: loss of each sample at step 0: float [samples].
    """
    fall, whole = float(np.mean(older - newer)), float(np.mean(first - newer))
    if not math.isfinite(fall):
        return True  # of losses that are not finite nothing is known; the run has other ends for them
    return fall > lower_margin(older - newer) and fall > LEAST_SHARE * whole


def lower_margin(differences: np.ndarray) -> float:
    """How far a mean of paired differences must be above zero for the one-sided t-test at `ERROR_RATE`.

    With a single pair nothing can be estimated, and any fall counts: 0.
    """
    count = len(differences)
    if count < 2:
        return 0.0
    return student_quantile(1 - ERROR_RATE, count - 1) * float(np.std(differences, ddof=1)) / math.sqrt(count)


def student_quantile(probability: float, degrees: int) -> float:
    """A quantile of Student's t distribution, by the expansion of Abramowitz and Stegun 26.7.5.

    At 95 % it is exact for one and two degrees of freedom and within 0.1 % above.
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
