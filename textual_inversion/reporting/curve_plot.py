"""Likeness against editability as an SVG: one line for the mixes, one for the steps, a larger dot at the best."""

from textual_inversion.evaluation.curve import MIX, STEP, Curve
from textual_inversion.reporting.plots import Series, plot


def curve_plot(curve: Curve) -> str:
    """The picture, as a file of its own."""
    best = curve.recommended()
    series = [
        Series(label, *_drawn(curve, [point for point in curve.points if point.kind == kind]))
        for kind, label in ((MIX, "mixes from start to learned"), (STEP, "saved steps"))
    ]
    series.append(Series(f"recommended: {best.label}", *_drawn(curve, [best]), is_marked=True))
    return plot(series, x_label="editability", y_label="likeness", is_file=True)


def _drawn(curve: Curve, points: list) -> tuple[list[tuple[float, float]], list[str]]:
    """(editability, likeness) of points, and what each is."""
    return [curve.place(point) for point in points], [point.label for point in points]
