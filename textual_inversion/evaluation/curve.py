"""Likeness against editability: which mix of start and learned vectors, or which saved step, is the best bargain.

A word that is learned for long becomes more like its images and harder to put into other scenes (arXiv 2208.01618,
section 5.3). Both are measured for mixes start + t · (learned - start) and for the steps that a run has saved, with the
same seeds, and put on scales from 0 to 1: likeness is the share of the way from the baseline's image similarity to the
ceiling's, editability the text similarity as a share of the baseline's. The point recommended has the highest harmonic
mean of the two, so neither can make up for the lack of the other; of points that chance does not tell from it, the one
that was trained least. Nothing here imports Paddle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MIX, STEP = "mix", "step"


@dataclass(frozen=True)
class Point:
    """A point of the curve.

    Attributes:
        kind: MIX or STEP.
        at: t in [0, 1], or the number of the step.
        image, text: similarities, with their standard errors.
    """

    kind: str
    at: float
    image: float
    text: float
    image_error: float = 0.0
    text_error: float = 0.0

    @property
    def label(self) -> str:
        """What it is, for people."""
        return f"{self.at:.0%} of the way" if self.kind == MIX else f"step {self.at:.0f}"


@dataclass(frozen=True)
class Curve:
    """Points with the scales that they are judged by.

    Attributes:
        points: mixes by t, then steps.
        baseline: image and text similarity of the initializer word.
        ceiling: the highest image similarity that is possible; None: that of the points.
    """

    points: Sequence[Point]
    baseline: tuple[float, float]
    ceiling: float | None

    def likeness(self, point: Point) -> float:
        """How far a point is on the way from the baseline to the ceiling, in [0, 1]."""
        low, high = self.baseline[0], self._top
        return min(1.0, max(0.0, (point.image - low) / (high - low))) if high > low else 0.0

    def editability(self, point: Point) -> float:
        """Which share of the baseline's text similarity a point keeps, in [0, 1]."""
        return min(1.0, max(0.0, point.text / self.baseline[1])) if self.baseline[1] > 0 else 0.0

    def place(self, point: Point) -> tuple[float, float]:
        """Where a point is drawn: editability and likeness, which may lie beyond their scales."""
        low, high = self.baseline[0], self._top
        ratio = point.text / self.baseline[1] if self.baseline[1] > 0 else 0.0
        return ratio, (point.image - low) / (high - low) if high > low else 0.0

    def balance(self, point: Point) -> float:
        """The harmonic mean of likeness and editability."""
        return _harmonic(self.likeness(point), self.editability(point))

    @property
    def _top(self) -> float:
        return self.ceiling if self.ceiling is not None else max(point.image for point in self.points)

    def recommended(self) -> Point:
        """The point to take."""
        best = max(self.points, key=self.balance)
        least = self.balance(best) - self._error(best)
        near = [point for point in self.points if point.kind == best.kind and self.balance(point) >= least]
        return min(near, key=lambda point: point.at)

    def _error(self, point: Point) -> float:
        """The standard error of a point's balance, to first order."""
        likeness, editability = self.likeness(point), self.editability(point)
        total = likeness + editability
        if not total or self._top <= self.baseline[0]:
            return 0.0
        slopes = 2 * editability**2 / total**2, 2 * likeness**2 / total**2
        errors = point.image_error / (self._top - self.baseline[0]), point.text_error / self.baseline[1]
        return sum((slope * error) ** 2 for slope, error in zip(slopes, errors, strict=True)) ** 0.5


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def as_json(curve: Curve) -> dict[str, Any]:
    """All of it, with the recommended point."""
    rows = [
        {**vars(point), "likeness": curve.likeness(point), "editability": curve.editability(point),
         "balance": curve.balance(point)}
        for point in curve.points
    ]  # fmt: skip
    best = curve.recommended()
    facts = {"baseline": {"image": curve.baseline[0], "text": curve.baseline[1]}, "ceiling": {"image": curve.ceiling}}
    return {"points": rows, **facts, "recommended": {"kind": best.kind, "at": best.at}}


def table(curve: Curve) -> list[str]:
    """The rows of a table, with a star at the recommended point."""
    best = curve.recommended()
    rows = [f"{'point':<18}  {'image similarity':>16}  {'text similarity':>16}  {'likeness':>8}  {'editable':>8}"]
    for point in curve.points:
        image, text = (
            f"{v:.3f} ± {e:.3f}" for v, e in ((point.image, point.image_error), (point.text, point.text_error))
        )
        shares = f"{curve.likeness(point):>8.0%}  {curve.editability(point):>8.0%}"
        rows.append(f"{point.label:<18}  {image:>16}  {text:>16}  {shares}{' *' if point == best else ''}")
    return rows
