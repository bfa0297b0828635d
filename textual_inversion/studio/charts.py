"""Curves as Vega-Lite describes them: plain data, which Streamlit draws in the browser."""

from collections.abc import Mapping, Sequence
from typing import Any

Point = tuple[int, float]
# Apart from one another on light and on dark paper, and for those who do not tell red from green.
COLOURS = ("#2a9da6", "#d9822b", "#7a6fd0", "#c2557f", "#6b8e23", "#8a8f95")


def lines(
    curves: Mapping[str, Sequence[Point]], x_title: str, colours: Sequence[str] = COLOURS, *, is_log: bool = False
) -> dict[str, Any]:
    """A chart of some curves over the steps, each under its own name.

    Args:
        colours: of the curves in their order; they are taken again where there are more curves.
        is_log: the vertical axis is logarithmic; values that are not positive are left out.
    """
    values = [
        {"step": step, "value": value, "curve": name}
        for name, points in curves.items()
        for step, value in points
        if not is_log or value > 0
    ]
    names = list(curves)
    range_ = [colours[i % len(colours)] for i in range(len(names))]
    scale = {"type": "log"} if is_log else {"zero": False}
    return {
        "data": {"values": values},
        "mark": {"type": "line", "point": False, "tooltip": True, "interpolate": "monotone"},
        "encoding": {
            "x": {"field": "step", "type": "quantitative", "title": x_title, "axis": {"grid": False}},
            "y": {"field": "value", "type": "quantitative", "title": None, "scale": scale, "axis": {"tickCount": 5}},
            "color": {
                "field": "curve", "type": "nominal", "title": None, "scale": {"domain": names, "range": range_},
                "legend": {"orient": "top", "labelLimit": 260, "columns": 2} if len(names) > 1 else None,
            },
            "tooltip": [
                {"field": "curve", "type": "nominal", "title": " "},
                {"field": "step", "type": "quantitative", "title": x_title},
                {"field": "value", "type": "quantitative", "title": "=", "format": ".4g"},
            ],
        },
    }  # fmt: skip
