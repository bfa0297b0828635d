"""How a drawn image is turned into a sketch, a painting or one of the invented styles."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from demo.pen import UNITS
from demo.specs import INKS, PAINTING, PAPERS, PHOTO, SKETCH, Style


def _sketch(image: Image.Image) -> Image.Image:
    """Pencil on white: the image divided by its own blur leaves lines and a little tone."""
    grey = image.convert("L")
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(image.width / UNITS * 1.3)), np.float32)
    tone = np.asarray(grey, np.float32)
    lines = np.clip((tone + 8) / (blurred + 8), 0, 1) ** 3.5
    return Image.fromarray((lines * (222 + tone / 255 * 33)).astype(np.uint8)).convert("RGB")


@lru_cache(maxsize=4)
def _waves(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel each painted pixel is taken from: a fixed wavy displacement, as of broad brush strokes."""
    y, x = np.mgrid[0:width, 0:width] / width * UNITS
    amplitude, period = 0.9, 12.5
    sources = (
        (y + amplitude * np.sin(2 * np.pi * x / period), x + amplitude * np.sin(2 * np.pi * y / period))
    )  # fmt: skip
    return tuple(np.clip(s / UNITS * width, 0, width - 1).astype(np.int32) for s in sources)


def _painting(image: Image.Image) -> Image.Image:
    """Wavy strokes, few tones, warm varnish."""
    rows, columns = _waves(image.width)
    pixels = np.asarray(image)[rows, columns]
    posterised = (pixels // 43) * 46 + 18
    return Image.fromarray(np.minimum(posterised * np.array([1.0, 0.96, 0.84]), 255).astype(np.uint8))


@lru_cache(maxsize=32)
def _texture(name: str, width: int) -> np.ndarray:
    """Return where a texture puts ink, [H, W, 1] in 0..1. Its period is an eighth of the image."""
    y, x = np.mgrid[0:width, 0:width] * (8.0 / width)
    if name == "hatched":
        ink = ((x + y) % 1.0) < 0.4
    elif name == "dotted":
        ink = ((x % 1.0 - 0.5) ** 2 + (y % 1.0 - 0.5) ** 2) < 0.3**2
    elif name == "lined":
        ink = (y % 1.0) < 0.4
    else:
        ink = np.zeros_like(x)
    return ink[..., None].astype(np.float32)


@lru_cache(maxsize=32)
def _edge(name: str, width: int) -> np.ndarray:
    """Return where an edge treatment puts ink, [H, W, 1] in 0..1."""
    distance = np.abs((np.arange(width) + 0.5) / width - 0.5)
    if name == "framed":
        ink = (np.maximum(distance[:, None], distance[None]) > 0.44).astype(np.float32)
    elif name == "vignetted":
        ink = np.clip((distance[:, None] ** 2 + distance[None] ** 2 - 0.16) * 3.6, 0, 0.9)
    else:
        ink = np.zeros((width, width))
    return ink[..., None].astype(np.float32)


def _invented(image: Image.Image, style: Style) -> Image.Image:
    """Print the image in two colours, with the style's texture and edge."""
    ink, paper = np.array(INKS[style.ink], np.float32), np.array(PAPERS[style.paper], np.float32)
    texture_weight = 0.36
    light = np.asarray(image.convert("L"), np.float32)[..., None] / 255
    light = np.clip(0.08 + 1.04 * light**0.8, 0, 1)
    light = light * (1 - texture_weight * _texture(style.texture, image.width))
    edge = _edge(style.edge, image.width)
    light = light * (1 - edge)
    printed = ink + (paper - ink) * light
    if style.strength < 1:
        own = np.asarray(image, np.float32) * (1 - edge) + ink * edge
        printed = printed * style.strength + own * (1 - style.strength)
    return Image.fromarray(printed.astype(np.uint8))


def apply_style(image: Image.Image, style: str | Style) -> Image.Image:
    """Return the image in one of `specs.MEDIA` or in an invented style."""
    if isinstance(style, Style):
        return _invented(image, style)
    return {PHOTO: lambda i: i, SKETCH: _sketch, PAINTING: _painting}[style](image)
