"""Which part of an image is cut out: around what stands out in it, or as many overlapping parts as cover it.

The focal point is found without a model. On a small version of the image three maps are made: how strong its edges
are, how far each colour is from the mean colour, and how saturated it is. Each is divided by its mean, so that they
count equally, and what is below the mean of their sum counts nothing. The crop lies where it holds most of that.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

_SIDE = 64  # of the small version, in pixels, whatever the shape
_BLUR = 1.5  # pixels of it
_NEARLY_ALL = 0.97  # of what the best crop holds; among those crops the one around the focal point is taken
_OVERLAP = 0.25  # of a part with the next one
_NEARLY_ONE = 1.1  # an image that is no longer than so many parts is one part

Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


@dataclass(frozen=True)
class Focus:
    """How much stands out in each of 64 columns and 64 rows of an image; the sum is 1."""

    columns: tuple[float, ...]
    rows: tuple[float, ...]


def focus_of(image: Image.Image) -> Focus:
    """Where an RGB image has edges, colours far from its mean, and saturation."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("RGB")
    pixels = np.asarray(small.filter(ImageFilter.GaussianBlur(_BLUR / 2)), dtype=np.float64) / 255
    grey = pixels @ (0.299, 0.587, 0.114)
    down, right = np.gradient(grey)
    maps = [
        np.hypot(down, right),
        np.linalg.norm(pixels - pixels.mean(axis=(0, 1)), axis=2),
        pixels.max(axis=2) - pixels.min(axis=2),
    ]
    total = sum((one / one.mean() for one in maps if one.mean() > 1e-6), start=np.zeros_like(grey))
    standing_out = np.clip(total - total.mean(), 0, None)
    if standing_out.sum() < 1e-9:
        standing_out = np.ones_like(grey)
    standing_out = standing_out / standing_out.sum()
    return Focus(tuple(standing_out.sum(axis=0)), tuple(standing_out.sum(axis=1)))


def focal_box(size: tuple[int, int], aspect: float, focus: Focus) -> Box:
    """The largest box of an aspect ratio (width / height), where most stands out.

    Args:
        size: (width, height) of the image.
    """
    width, height = _largest(size, aspect)
    left = _offset(size[0], width, focus.columns)
    top = _offset(size[1], height, focus.rows)
    return left, top, left + width, top + height


def _largest(size: tuple[int, int], aspect: float) -> tuple[int, int]:
    return max(1, min(size[0], round(size[1] * aspect))), max(1, min(size[1], round(size[0] / aspect)))


def _offset(length: int, part: int, profile: tuple[float, ...]) -> int:
    """Where a part of a length begins, in pixels, so that it holds as much as possible of a profile."""
    offsets = np.arange(length - part + 1)
    ends, sums = np.linspace(0, length, len(profile) + 1), np.concatenate([[0.0], np.cumsum(profile)])
    held = np.interp(offsets + part, ends, sums) - np.interp(offsets, ends, sums)
    good = offsets[held >= _NEARLY_ALL * held.max()]
    middle = float(np.dot(profile, (ends[:-1] + ends[1:]) / 2) / sums[-1])
    return int(good[np.argmin(np.abs(good + part / 2 - middle))])


def tile_boxes(size: tuple[int, int], shape: tuple[int, int], rows: int) -> list[Box]:
    """Overlapping parts of one size that cover an image, from the top left to the bottom right.

    Args:
        size: (width, height) of the image.
        shape: (height, width) that the parts are brought to; they have its aspect ratio, and are never enlarged to it
            in order to have more rows.
        rows: how many there are along the image's shorter side, as measured in parts; fewer if it has not the pixels.
    """
    widest = _largest(size, shape[1] / shape[0])
    for number in range(rows, 0, -1):
        share = 1 / (1 + (number - 1) * (1 - _OVERLAP))
        width, height = max(1, math.floor(widest[0] * share)), max(1, math.floor(widest[1] * share))
        if number == 1 or (width >= shape[1] and height >= shape[0]):
            break
    across, down = _begins(size[0], width), _begins(size[1], height)
    return [(left, top, left + width, top + height) for top in down for left in across]


def _begins(length: int, part: int) -> list[int]:
    """Where parts of a length begin, evenly spaced over all of it."""
    if length <= _NEARLY_ONE * part:
        return [(length - part) // 2]
    # A pixel that rounding has taken off makes no further part.
    number = 1 + math.ceil((length - part) / (part * (1 - _OVERLAP)) - 2 / part)
    return [round(i * (length - part) / (number - 1)) for i in range(number)]
