"""Draws a toy in a scene with PIL, at any size. Geometry is in units of 1/100 of the image's side.

Images vary little on purpose: fixed horizon, small jitter, never mirrored. A model small enough to train on a
laptop's processor then learns which words belong to which images from some hundred thousand samples.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from demo.drawing_styles import apply_style
from demo.pen import CIRCLE, OUTLINE, UNITS, Pen, Point, mix
from demo.specs import COLORS, PHOTO, RGB, Style, Toy

SIZE = 128  # side of the demo's images, in pixels
HORIZON = 62.0
SCALE_JITTER, SHIFT_JITTER, ROTATION_JITTER = 0.02, 1.5, 3.0  # relative, units, degrees
BRIGHTNESS_JITTER = 0.03
TOY_SCALE = 0.93
PAIR_SCALE, PAIR_SHIFT = 0.6, 24.0  # of two toys in one image: size, and units from the middle to each
# Images are drawn on a side of so many pixels first, and of so many times their own: at the least.
CANVAS, SUPERSAMPLING = 384, 2

WHITE, NEAR_BLACK, BEAK = (255, 255, 255), (22, 20, 24), (248, 160, 36)
HAT, HAT_BAND, PACK, PACK_POCKET, BALLOON = (176, 24, 52), (250, 226, 120), (44, 92, 60), (92, 148, 96), (226, 40, 60)


# --------------------------------------------------------------------------------------------------------- scenes


def _gradient(pixels: np.ndarray, y0: float, y1: float, top: RGB, bottom: RGB) -> None:
    """Fill the rows between y0 and y1 (units) with a vertical gradient."""
    rows = slice(round(y0 / UNITS * len(pixels)), round(y1 / UNITS * len(pixels)))
    n = rows.stop - rows.start
    t = (np.arange(n) / max(1, n - 1))[:, None, None]
    pixels[rows] = np.array(top) * (1 - t) + np.array(bottom) * t


SKY_AND_GROUND: dict[str, list[tuple[float, float, RGB, RGB]]] = {
    "on the beach": [
        (0, 46, (112, 188, 242), (206, 234, 250)),
        (46, HORIZON, (34, 122, 190), (64, 170, 212)),
        (HORIZON, 100, (242, 218, 162), (222, 192, 128)),
    ],
    "in the snow": [(0, HORIZON, (160, 180, 210), (206, 218, 234)), (HORIZON, 100, (252, 253, 255), (224, 234, 246))],
    "on the grass": [(0, HORIZON, (126, 198, 250), (212, 236, 250)), (HORIZON, 100, (112, 184, 68), (58, 132, 40))],
    "at night": [(0, HORIZON, (10, 14, 48), (38, 42, 94)), (HORIZON, 100, (30, 36, 54), (16, 20, 34))],
    "on a table": [(0, HORIZON, (230, 222, 202), (206, 196, 174)), (HORIZON, 100, (166, 106, 60), (112, 68, 36))],
    "in a pink room": [(0, HORIZON, (252, 192, 208), (240, 168, 192)), (HORIZON, 100, (190, 116, 150), (166, 94, 128))],
}


def _decorate(scene: str, pen: Pen) -> None:
    """Draw the details of a scene; always at the same positions."""
    rng = random.Random(scene)
    if scene == "on the beach":
        pen.ellipse(14, 13, 7, 7, (255, 240, 150), outline=False)
    elif scene == "in the snow":
        for _ in range(36):
            pen.ellipse(rng.uniform(0, 100), rng.uniform(0, HORIZON), 1.0, 1.0, WHITE, outline=False)
    elif scene == "on the grass":
        for x, y in ((8, 88), (17, 72), (86, 80), (93, 94), (80, 67), (6, 66)):
            pen.ellipse(x, y, 1.7, 1.7, (255, 250, 220), outline=False)
    elif scene == "at night":
        for _ in range(22):
            pen.ellipse(rng.uniform(0, 100), rng.uniform(0, 55), 0.8, 0.8, (255, 250, 210), outline=False)
        pen.ellipse(84, 14, 7, 7, (252, 246, 204), outline=False)
    elif scene == "in a pink room":
        pen.line = (255, 240, 244)
        pen.box(5, 10, 21, 32, (170, 214, 246), corner=0.5)
        pen.stroke([(13, 10), (13, 32)], OUTLINE)


def canvas_width(size: int) -> int:
    """Side in pixels on which an image of `size` is drawn first: a multiple of it, and the same for 64 and 128."""
    return size * max(SUPERSAMPLING, math.ceil(CANVAS / size))


@lru_cache(maxsize=64)
def _scene(name: str, width: int) -> Image.Image:
    pixels = np.zeros((width, width, 3))
    for y0, y1, top, bottom in SKY_AND_GROUND[name]:
        _gradient(pixels, y0, y1, top, bottom)
    image = Image.fromarray(pixels.round().astype(np.uint8))
    _decorate(name, Pen(image, NEAR_BLACK))
    return image


def _jittered_pen(canvas: Image.Image, toy: Toy, rng: random.Random, scale: float = 1.0, x: float = 0.0) -> Pen:
    """Return a pen for a toy of a relative size, `x` units beside the middle."""
    return Pen(
        canvas,
        line=mix(COLORS[toy.body], NEAR_BLACK, 0.62),
        scale=scale * TOY_SCALE * (1 + rng.uniform(-SCALE_JITTER, SCALE_JITTER)),
        angle=rng.uniform(-ROTATION_JITTER, ROTATION_JITTER),
        shift=(x + rng.uniform(-SHIFT_JITTER, SHIFT_JITTER), rng.uniform(-SHIFT_JITTER, 0)),
    )


def _shadow(canvas: Image.Image, pen: Pen) -> None:
    points = [(50 + 31 * c, 95 + 4.5 * s) for c, s in CIRCLE]
    ImageDraw.Draw(canvas, "RGBA").polygon(pen.place(points), fill=(0, 0, 0, 72))


# ----------------------------------------------------------------------------------------------------------- toys

BODY, HEAD = (50.0, 72.0, 23.0, 21.0), (50.0, 33.0, 23.5, 20.0)  # centre and radii
STRIPES = ((58.5, 65.0), (71.0, 77.5), (84.0, 89.5))
SPOTS = ((37, 65), (51, 63), (64, 67), (42, 77), (58, 77), (49, 87))


def _stripe(top: float, bottom: float, square: bool) -> list[Point]:
    """Return the part of the body between two heights."""
    cx, cy, rx, ry = BODY
    if square:
        return [(cx - rx, top), (cx + rx, top), (cx + rx, bottom), (cx - rx, bottom)]
    heights = [top + (bottom - top) * i / 6 for i in range(7)]
    half = [rx * math.sqrt(max(0.0, 1 - ((y - cy) / ry) ** 2)) for y in heights]
    edge = list(zip(half, heights, strict=True))
    return [(cx - h, y) for h, y in edge] + [(cx + h, y) for h, y in reversed(edge)]


def _behind(pen: Pen, toy: Toy, accent: RGB) -> None:
    """Draw what the body hides: tail, wings, long ears."""
    if toy.species == "cat":
        curve = [(64, 85), (72, 86.5), (79, 85), (84, 80), (86.5, 73), (86.5, 66), (84, 60), (80, 57)]
        pen.outlined_stroke(curve, 5.5, accent)
    elif toy.species == "dog":
        pen.outlined_stroke([(66, 80), (79, 72), (85, 58)], 6.5, accent)
    elif toy.species == "rabbit":
        pen.ellipse(75, 82, 7, 7, accent)
    elif toy.species == "duck":
        pen.polygon([(66, 78), (90, 66), (86, 86)], accent)
        for x in (27, 73):
            pen.ellipse(x, 71, 6.5, 12, accent)
    elif toy.species == "robot":
        for x in (25, 75):
            pen.box(x - 5, 60, x + 5, 82, accent, corner=2)


def _ears(pen: Pen, toy: Toy, accent: RGB) -> None:
    if toy.species == "cat":
        pen.polygon([(28, 28), (29, 4), (47, 16)], accent)
        pen.polygon([(72, 28), (71, 4), (53, 16)], accent)
    elif toy.species == "bear":
        for x in (31, 69):
            pen.ellipse(x, 17, 9, 9, accent)
    elif toy.species == "rabbit":
        for x in (39, 61):
            pen.ellipse(x, 10, 6.5, 15, accent)
    elif toy.species == "robot":
        pen.stroke([(50, 6), (50, 16)], 3)
        pen.ellipse(50, 5.5, 5, 5, accent)


def _trunk(pen: Pen, toy: Toy, body: RGB, accent: RGB) -> None:
    """Draw body, pattern and feet."""
    cx, cy, rx, ry = BODY
    robot = toy.species == "robot"
    if robot:
        pen.box(cx - rx, cy - ry, cx + rx, cy + ry, body)
    else:
        pen.ellipse(cx, cy, rx, ry, body)
    if toy.pattern == "striped":
        for top, bottom in STRIPES:
            pen.polygon(_stripe(top, bottom, robot), accent, outline=False)
    elif toy.pattern == "spotted":
        for x, y in SPOTS:
            pen.ellipse(x, y, 4.3, 4.3, accent, outline=False)
    for x in (36, 64):
        pen.ellipse(x, 92, 10, 5.5, accent)


def _head(pen: Pen, toy: Toy, body: RGB, accent: RGB) -> None:
    cx, cy, rx, ry = HEAD
    shine = mix(body, WHITE, 0.16)
    if toy.species == "robot":
        pen.box(cx - rx, cy - ry + 2, cx + rx, cy + ry - 1, body)
    else:
        pen.ellipse(cx, cy, rx, ry, body)
        pen.ellipse(cx - 4, cy - 8, rx * 0.6, ry * 0.45, shine, outline=False)
    if toy.species == "dog":
        for x in (27, 73):
            pen.ellipse(x, 35, 7, 15, accent)


def _face(pen: Pen, toy: Toy, accent: RGB, third: RGB) -> None:
    for x in (40, 60):
        pen.ellipse(x, 31, 6.2, 6.8, WHITE)
        pen.ellipse(x, 31.5, 4.6, 5.2, third, outline=False)
        pen.ellipse(x, 31.5, 2.0, 2.6, NEAR_BLACK, outline=False)
    if toy.species == "duck":
        pen.ellipse(50, 43.5, 11, 4.4, BEAK)
    elif toy.species == "robot":
        pen.box(38, 42, 62, 47, accent, corner=1)
    else:
        pen.ellipse(50, 41, 3.6, 2.6, accent)
        pen.stroke([(50, 44), (47, 46.5), (44, 45.5)], OUTLINE)
        pen.stroke([(50, 44), (53, 46.5), (56, 45.5)], OUTLINE)
    if toy.species == "cat":
        for side in (-1, 1):
            for dy in (-2.5, 2.5):
                pen.stroke([(50 + side * 12, 43), (50 + side * 24, 43 + dy)], OUTLINE)


def _scarf(pen: Pen, third: RGB) -> None:
    pen.polygon([(57, 56), (68, 55), (70, 71), (60, 72)], third)
    pen.box(29, 50, 71, 58.5, third)


def _accessory(pen: Pen, name: str | None, front: bool) -> None:
    """Draw the half of an accessory that lies behind (or in front of) the toy."""
    if name == "hat" and front:
        pen.polygon([(35, 16), (50, -2), (65, 16)], HAT)
        pen.box(31, 14, 69, 20, HAT_BAND, corner=2)
    elif name == "backpack" and not front:
        pen.box(15, 54, 85, 86, PACK, corner=6)
    elif name == "backpack":
        for x in (34, 66):
            pen.polygon([(x - 3, 57), (x + 3, 57), (x + 3, 80), (x - 3, 80)], PACK_POCKET)
    elif name == "balloon" and not front:
        pen.stroke([(30, 74), (14, 60), (12, 30)], OUTLINE)
        pen.ellipse(12, 22, 10, 12, BALLOON)
        pen.ellipse(9, 18, 2.5, 3.5, mix(BALLOON, WHITE, 0.6), outline=False)


def _draw_toy(pen: Pen, toy: Toy, accessory: str | None) -> None:
    body, accent, third = COLORS[toy.body], COLORS[toy.accent], COLORS[toy.third]
    _accessory(pen, accessory, front=False)
    _behind(pen, toy, accent)
    _trunk(pen, toy, body, accent)
    _ears(pen, toy, accent)
    _head(pen, toy, body, accent)
    _face(pen, toy, accent, third)
    _scarf(pen, third)
    _accessory(pen, accessory, front=True)


# ---------------------------------------------------------------------------------------------------------- image


def draw(
    toy: Toy,
    scene: str,
    style: str | Style = PHOTO,
    size: int = SIZE,
    seed: int = 0,
    accessory: str | None = None,
    beside: Toy | None = None,
) -> Image.Image:
    """Draw one image.

    Args:
        toy: what stands in the image.
        scene: one of `specs.SCENES`.
        style: one of `specs.MEDIA`, or an invented style.
        size: side of the image in pixels.
        seed: decides the small jitter of position, size, angle and brightness; the same at every size.
        accessory: one of `specs.ACCESSORIES`, or None.
        beside: a second toy, to the right of the first; both are smaller then.

    Returns:
        An RGB image. The same arguments give the same image.
    """
    rng = random.Random(seed)
    width = canvas_width(size)
    canvas = _scene(scene, width).copy()
    place = {"scale": PAIR_SCALE, "x": -PAIR_SHIFT} if beside else {}
    pen = _jittered_pen(canvas, toy, rng, **place)
    brightness = 1 + rng.uniform(-BRIGHTNESS_JITTER, BRIGHTNESS_JITTER)
    _shadow(canvas, pen)
    _draw_toy(pen, toy, accessory)
    if beside:
        pen = _jittered_pen(canvas, beside, rng, PAIR_SCALE, PAIR_SHIFT)
        _shadow(canvas, pen)
        _draw_toy(pen, beside, None)
    image = apply_style(canvas, style).resize((size, size), Image.Resampling.LANCZOS)
    return image.point([min(255, round(v * brightness)) for v in range(256)] * 3)


def thing_mask(toy: Toy, scene: str, size: int = SIZE, seed: int = 0) -> Image.Image:
    """Where the toy is in the image that `draw` makes of the same arguments, without its shadow.

    Returns:
        Mode "L": white is the toy.
    """
    width = canvas_width(size)
    canvas = _scene(scene, width).copy()
    pen = _jittered_pen(canvas, toy, random.Random(seed))
    _shadow(canvas, pen)
    before = np.asarray(canvas).copy()
    _draw_toy(pen, toy, None)
    changed = (np.asarray(canvas) != before).any(axis=-1)
    return Image.fromarray(255 * changed.astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
