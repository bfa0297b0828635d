"""Curves as SVG, in a page or a file of their own: no package, no script, every text escaped.

Colours are classes, `c0` to `c7`, which the page's style sheet sets; a file of its own carries `STYLE`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from textual_inversion.system.terminal_text import one_line

WIDTH, HEIGHT = 640, 280
COLOURS = ("#0b6b73", "#b5532a", "#5a55a3", "#3d7a35", "#a83f6f", "#8a6d1d", "#3f6fa8", "#6b6b70")
_DASHED = ".c1,.c3,.c5{stroke-dasharray:7 3}"  # so that a curve is seen that lies on another one
_PLAIN = "text{font:12px sans-serif;fill:#66666d}.grid{stroke:#dad8d2}.line{fill:none;stroke-width:2}"
STYLE = f"{_PLAIN}{_DASHED}" + "".join(f".c{i}{{stroke:{c}}}.f{i}{{fill:{c}}}" for i, c in enumerate(COLOURS))
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 40
_MOST_POINTS = 500  # of a curve that is drawn: more than pixels
_MOST_DOTS = 40


@dataclass(frozen=True)
class Series:
    """A curve: points (x, y), with a label; `notes` are shown beside the points where the pointer is.

    Where `is_key`, a page has the label in its languages.
    """

    label: str
    points: Sequence[tuple[float, float]]
    notes: Sequence[str] = ()
    is_marked: bool = False
    is_key: bool = False


def plot(series: Sequence[Series], *, x_label: str = "", y_label: str = "", is_file: bool = False) -> str:
    """An SVG of some curves in one frame, with a legend where there are several; "" where there is no point.

    Args:
        is_file: it stands alone, with its own colours and background.
    """
    shown = [(index, one) for index, one in enumerate(series) if one.points]
    points = [point for _, one in shown for point in one.points]
    if not points:
        return ""
    frame = _Frame(
        [x for x, _ in points], [y for _, y in points], _legend_height(shown, len(series) > 1), is_file=is_file
    )
    parts = [frame.axes(x_label, y_label), *(_curve(frame, index, one) for index, one in shown)]
    parts += [_legend(index, at, one) for at, (index, one) in enumerate(shown)] if len(series) > 1 else []
    style = f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#faf9f6"/>' if is_file else ""
    name = ' xmlns="http://www.w3.org/2000/svg"'
    return f'<svg{name} viewBox="0 0 {WIDTH} {frame.height}" role="img">{style}{"".join(parts)}</svg>'


class _Frame:
    """Where values are in the picture."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], above: int, *, is_file: bool):
        self._is_file = is_file
        self.x_ticks, self.y_ticks = _ticks(min(xs), max(xs)), _ticks(min(ys), max(ys))
        self._x, self._y = _span([*xs, *self.x_ticks]), _span([*ys, *self.y_ticks])
        self._above, self.height = _TOP + above, HEIGHT + above

    def _key(self, label: str) -> str:
        """By which a page puts the label into its language."""
        return f' data-text="{_text(label)}"' if label and not self._is_file else ""

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The place of a point, in pixels from the upper left."""
        across = (x - self._x[0]) / ((self._x[1] - self._x[0]) or 1)
        up = (y - self._y[0]) / ((self._y[1] - self._y[0]) or 1)
        high = self.height - self._above - _BOTTOM
        return round(_LEFT + across * (WIDTH - _LEFT - _RIGHT), 1), round(self.height - _BOTTOM - up * high, 1)

    def axes(self, x_label: str, y_label: str) -> str:
        """Lines and numbers of both axes, and what they mean."""
        parts = []
        for value in self.y_ticks:
            _, y = self.at(self._x[0], value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{value:.4g}</text>')
        for value in self.x_ticks:
            x, _ = self.at(value, self._y[0])
            parts.append(f'<text x="{x}" y="{self.height - 22}" text-anchor="middle">{value:.6g}</text>')
        place = f'x="{WIDTH - _RIGHT}" y="{self.height - 4}" text-anchor="end"'
        parts.append(f"<text {place}{self._key(x_label)}>{_text(x_label)}</text>")
        parts.append(f'<text x="4" y="{self._above - 3}">{_text(y_label)}</text>' if y_label else "")
        return "".join(parts)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The least and the largest; around a single value a span, so that it is in the middle."""
    least, most = min(values), max(values)
    return (least, most) if most > least else (least - 1, most + 1)


def _curve(frame: _Frame, index: int, series: Series) -> str:
    points = [frame.at(x, y) for x, y in _thinned(series.points)]
    line = " ".join(f"{x},{y}" for x, y in points)
    drawn = f'<polyline class="line c{index % len(COLOURS)}" points="{line}"/>'
    if len(series.points) > _MOST_DOTS:
        return drawn
    notes = list(series.notes) or [f"{x:.6g}: {y:.5g}" for x, y in series.points]
    dots = (
        f'<circle class="f{index % len(COLOURS)}" cx="{x}" cy="{y}" r="{6 if series.is_marked else 3}">'
        f"<title>{_text(note)}</title></circle>"
        for (x, y), note in zip(points, notes, strict=True)
    )
    return drawn + "".join(dots)


def _legend_height(shown: Sequence[tuple[int, Series]], has_legend: bool) -> int:
    return 18 * len(shown) if has_legend else 0


def _legend(index: int, at: int, series: Series) -> str:
    y = _TOP + 18 * at
    box = f'<rect class="f{index % len(COLOURS)}" x="{_LEFT}" y="{y - 9}" width="12" height="4"/>'
    key = f' data-text="{_text(series.label)}"' if series.is_key else ""
    return f'{box}<text x="{_LEFT + 18}" y="{y - 3}"{key}>{_text(series.label)}</text>'


def _text(text: str) -> str:
    shown = one_line(text)
    return escape(shown if len(shown) <= 80 else f"{shown[:38]}…{shown[-40:]}")


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most `_MOST_POINTS` of the points, evenly spaced, with the first and the last."""
    if len(points) <= _MOST_POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (_MOST_POINTS - 1))] for i in range(_MOST_POINTS)]


def _ticks(least: float, most: float) -> list[float]:
    """Round numbers that divide a span in four to eight parts; one number where there is no span."""
    span = most - least
    if not span > 1e-12 * max(abs(least), abs(most), 1e-300):
        return [least]
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= 7)
    return [i * step for i in range(math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9) + 1)]
