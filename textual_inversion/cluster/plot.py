"""The plot of a search: the first metric of every trial against each flag, or two metrics against each other."""

import io
import math
from collections.abc import Sequence
from typing import Any

from textual_inversion.cluster.search import Search
from textual_inversion.cluster.space import Axis, Setting

_COLOUR, _BEST, _FAINT = "#4a6785", "#c0392b", "#b8c4d0"
_MOST_PANELS = 12
_LABEL = 24  # letters of a value below an axis


def plot_png(search: Search, best: int | None) -> bytes:
    """The plot as a PNG file's content. Trials that were stopped early are faint; the best one is red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics, axes = search.plan.metrics, search.plan.space[:_MOST_PANELS]
    panels = [*axes, *metrics[1:2]]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for number, panel in enumerate(panels):
        plot = figure.add_subplot(rows, columns, number + 1)
        plot.set_ylabel(metrics[0])
        points = _points(search, panel)
        _scatter(plot, points, best)
        if isinstance(panel, Axis):
            plot.set_xlabel(panel.name)
            _scale(plot, panel)
        else:
            plot.set_xlabel(panel)
            _front(plot, search)
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def _points(search: Search, panel: Axis | str) -> list[tuple[int, float, float, bool]]:
    """(trial, x, y, whether it came to its end) of each trial that was measured."""
    last, found = len(search.plan.labels) - 1, []
    for one in search.trials:
        figures = one.last()
        y = figures.get(search.plan.metrics[0])
        x = _place(panel, one.parameters[panel.name]) if isinstance(panel, Axis) else figures.get(panel)
        if x is not None and y is not None:
            found.append((one.number, x, y, last in one.results))
    return found


def _place(axis: Axis, value: Setting) -> float | None:
    if axis.is_list and not _is_numeric(axis):
        return float(axis.values.index(value))
    return None if not isinstance(value, str) else float(value)


def _is_numeric(axis: Axis) -> bool:
    """Whether all values of a list are numbers."""
    try:
        return all(isinstance(value, str) and math.isfinite(float(value)) for value in axis.values)
    except ValueError:
        return False


def _scatter(plot: Any, points: Sequence[tuple[int, float, float, bool]], best: int | None) -> None:
    for number, x, y, is_whole in points:
        colour = _BEST if number == best else _COLOUR if is_whole else _FAINT
        plot.plot([x], [y], "o", color=colour, zorder=3 if number == best else 2)


def _scale(plot: Any, axis: Axis) -> None:
    if axis.is_list and not _is_numeric(axis):
        texts = [" ".join(value) if isinstance(value, tuple) else str(value or "unset") for value in axis.values]
        plot.set_xticks(range(len(texts)), [_plain(text)[:_LABEL] for text in texts])
        return
    values = [float(value) for value in axis.values] if axis.is_list else [axis.low, axis.high]
    if axis.is_log or (axis.is_list and min(values) > 0 and max(values) >= 20 * min(values)):
        plot.set_xscale("log")


def _plain(text: str) -> str:
    """A text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def _front(plot: Any, search: Search) -> None:
    """A line through the trials that no other beats."""
    first, second = search.plan.metrics[:2]
    front = [search.trials[number].last() for number in search.front()]
    points = sorted((figures[second], figures[first]) for figures in front)
    plot.plot([x for x, _ in points], [y for _, y in points], "-", color=_BEST, linewidth=1, zorder=1)
