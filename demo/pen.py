"""Shapes in units of 1/100 of the image's side, put onto a canvas as one: scaled, turned and shifted."""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

from demo.specs import RGB

UNITS = 100.0
OUTLINE = 1.1
TOY_PIVOT = (50.0, 96.0)  # the point between the feet stays where it stands
CIRCLE = [(math.cos(2 * math.pi * i / 40), math.sin(2 * math.pi * i / 40)) for i in range(40)]
Point = tuple[float, float]


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Return the colour `t` of the way from `a` to `b`."""
    return tuple(round(x + (y - x) * t) for x, y in zip(a, b, strict=True))


class Pen:
    """Draws shapes given in units onto a canvas, scaled, turned and shifted as one."""

    def __init__(self, canvas: Image.Image, line: RGB, scale: float = 1.0, angle: float = 0.0, shift: Point = (0, 0)):
        self.draw = ImageDraw.Draw(canvas)
        self.line = line
        self.unit = canvas.width / UNITS
        self.scale = scale
        self.shift = shift
        self.cos, self.sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def place(self, points: list[Point]) -> list[Point]:
        """Map points in units to pixels of the canvas."""
        (px, py), (sx, sy) = TOY_PIVOT, self.shift
        placed = []
        for x, y in points:
            dx, dy = (x - px) * self.scale, (y - py) * self.scale
            placed.append(
                ((px + sx + dx * self.cos - dy * self.sin) * self.unit,
                 (py + sy + dx * self.sin + dy * self.cos) * self.unit)
            )  # fmt: skip
        return placed

    def width(self, units: float) -> int:
        """Return a line width in pixels, at least one."""
        return max(1, round(units * self.scale * self.unit))

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: RGB, outline: bool = True) -> None:
        """Draw an ellipse around (x, y); the outline lies outside of the radii."""
        if outline:
            self.draw.polygon(
                self.place([(x + (rx + OUTLINE) * c, y + (ry + OUTLINE) * s) for c, s in CIRCLE]), fill=self.line
            )
        self.draw.polygon(self.place([(x + rx * c, y + ry * s) for c, s in CIRCLE]), fill=fill)

    def polygon(self, points: list[Point], fill: RGB, outline: bool = True) -> None:
        """Draw a closed shape."""
        placed = self.place(points)
        self.draw.polygon(placed, fill=fill)
        if outline:
            self.draw.line([*placed, placed[0], placed[1]], fill=self.line, width=self.width(OUTLINE), joint="curve")

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: RGB, corner: float = 3.0) -> None:
        """Draw a rectangle with its corners cut."""
        c = corner
        self.polygon(
            [(x0 + c, y0), (x1 - c, y0), (x1, y0 + c), (x1, y1 - c), (x1 - c, y1), (x0 + c, y1), (x0, y1 - c),
             (x0, y0 + c)],
            fill,
        )  # fmt: skip

    def stroke(self, points: list[Point], width: float, color: RGB | None = None) -> None:
        """Draw a line through the points; in the outline's colour by default."""
        self.draw.line(self.place(points), fill=color or self.line, width=self.width(width), joint="curve")

    def outlined_stroke(self, points: list[Point], width: float, color: RGB) -> None:
        """Draw a coloured line with an outline and round ends."""
        for extra, ink in ((2 * OUTLINE, self.line), (0.0, color)):
            radius = (width + extra) / 2
            self.stroke(points, 2 * radius, ink)
            for x, y in (points[0], points[-1]):
                self.ellipse(x, y, radius, radius, ink, outline=False)
