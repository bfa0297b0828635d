"""Learning curves as shares of what a recipe reaches, and the steps at which they reach a share. Pure arithmetic."""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

NEVER = math.inf
Curve = list[tuple[int, float]]


class Seeded(Hashable, Protocol):
    """A run that has a seed."""

    seed: int


@dataclass
class Course:
    """What a run showed.

    Attributes:
        loss: (step, loss on the fixed set), from step 0 on.
        score: (step, share of the way), from step 0 on; empty where it was not measured.
        step_seconds: of each optimizer step, without callbacks.
    """

    loss: Curve
    score: Curve
    step_seconds: list[float]


def as_shares(
    courses: Mapping[Seeded, Course], is_reference: Callable[[Seeded], bool], measure: str
) -> dict[Seeded, Curve]:
    """The curves of all runs on one concept, as shares of what the reference recipe reaches at its end.

    For scores, that is the median of the last scores over its seeds. For losses, it is the fall of the run with the
    same seed, because every seed has a fixed set of its own. If the reference gains nothing, no run reaches a share.
    """
    of_reference = {job.seed: course for job, course in courses.items() if is_reference(job)}
    if measure == "score":
        final = statistics.median(course.score[-1][1] for course in of_reference.values())
        return {job: [(step, _share(value, final)) for step, value in course.score] for job, course in courses.items()}
    shares = {}
    for job, course in courses.items():
        first, last = (of_reference[job.seed].loss[end][1] for end in (0, -1))
        shares[job] = [(step, _share(first - loss, first - last)) for step, loss in course.loss]
    return shares


def _share(gain: float, whole: float) -> float:
    return gain / whole if whole > 0 else -NEVER


def steps_until(curve: Curve, wanted: float) -> float:
    """The step at which a curve first reaches a value and keeps it at the next save (or ends there).

    Between two saves the curve is a straight line. Infinity if it never does.
    """
    for index, (step, value) in enumerate(curve):
        following = curve[index + 1][1] if index + 1 < len(curve) else value
        if value < wanted or following < wanted:
            continue
        if index == 0:
            return float(step)
        earlier, before = curve[index - 1]
        # The save before may have it too, by chance, with the one after it falling back.
        share = (wanted - before) / (value - before) if before < wanted else 1.0
        return earlier + share * (step - earlier)
    return NEVER


def seconds_at(step_seconds: Sequence[float], steps: float) -> float:
    """Seconds that `steps` steps took, the last one in part."""
    if math.isinf(steps):
        return NEVER
    whole = int(steps)
    part = (steps - whole) * step_seconds[whole] if whole < len(step_seconds) else 0.0
    return sum(step_seconds[:whole]) + part
