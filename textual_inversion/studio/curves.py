"""The curves of a run, from the figures that it writes while it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual_inversion.system import figure_log
from textual_inversion.system.figure_log import Figure

LOSS, FIXED, RATE = "train/loss", "eval/fixed_set_loss", "train/learning_rate"
_MOST_POINTS = 400  # of a curve that is shown
_SMOOTHED = 0.9


@dataclass(frozen=True)
class Curves:
    """What a run has logged.

    Attributes:
        points: tag -> (step, value), the steps rising.
        times: (step, seconds since 1970) of the training loss, the steps rising.
    """

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    times: list[tuple[int, float]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step of which something is known."""
        return max((curve[-1][0] for curve in self.points.values()), default=0)

    def last(self, tag: str) -> float | None:
        """The last value of a curve."""
        return self.points[tag][-1][1] if self.points.get(tag) else None

    def remaining(self, steps: int, now: float) -> float | None:
        """Seconds until the last step, as far as the pace of the last steps tells; None: nobody knows yet."""
        recent = self.times[-8:]
        if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
            return None
        pace = (recent[-1][1] - recent[0][1]) / (recent[-1][0] - recent[0][0])
        return max(0.0, (steps - recent[-1][0]) * pace - max(0.0, now - recent[-1][1]))


def of_run(folder: Path, logging_dir: str = "logs") -> Curves:
    """The curves of a run; empty where it logs nothing."""
    return of_figures(figure_log.read(folder / logging_dir / figure_log.FILE_NAME))


def of_figures(figures: Sequence[Figure]) -> Curves:
    """The curves of some figures; of a step that occurs twice the last one counts."""
    points: dict[str, dict[int, float]] = {}
    times: dict[int, float] = {}
    for one in figures:
        points.setdefault(one.tag, {})[one.step] = one.value
        if one.tag == LOSS:
            times[one.step] = one.time
    return Curves({tag: sorted(curve.items()) for tag, curve in points.items()}, sorted(times.items()))


def smoothed(points: Sequence[tuple[int, float]], share: float = _SMOOTHED) -> list[tuple[int, float]]:
    """The exponential mean of a curve, corrected for its beginning."""
    mean, weight, result = 0.0, 0.0, []
    for step, value in points:
        mean, weight = share * mean + (1 - share) * value, share * weight + (1 - share)
        result.append((step, mean / weight))
    return result


def thinned(points: Sequence[tuple[int, float]], most: int = _MOST_POINTS) -> list[tuple[int, float]]:
    """At most `most` points of a curve, evenly taken, the last one among them."""
    if len(points) <= most:
        return list(points)
    every = -(-len(points) // most)
    return [*points[: len(points) - 1 : every], points[-1]][-most:]
