"""The curves of a run, from the figures that it writes while it trains."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual_inversion.reporting.figures import read_curves

LOSS, FIXED, RATE = "train/loss", "eval/fixed_set_loss", "train/learning_rate"
_MOST_POINTS = 400  # of a curve that is shown
_SMOOTHED = 0.9


@dataclass(frozen=True)
class Curves:
    """What a run has measured.

    Attributes:
        points: tag -> (step, value), the steps rising.
    """

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The last step of which something is known."""
        return max((curve[-1][0] for curve in self.points.values()), default=0)

    def last(self, tag: str) -> float | None:
        """The last value of a curve."""
        return self.points[tag][-1][1] if self.points.get(tag) else None


def of_run(folder: Path) -> Curves:
    """The curves of a run so far; empty where there are none."""
    return Curves(read_curves(folder))


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
