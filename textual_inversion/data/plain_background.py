"""What stands before a plain background, found without a model.

The colour of the background may change slowly, as light falls off: it is a plane through the colours at the border of
the image. The background is what has that colour and is connected to the border, so a white eye on white paper stays
part of the thing. An image whose border is not of one such colour is refused, and never masked wrongly.
"""

import numpy as np
from PIL import Image, ImageFilter

_BORDER = 0.02  # width of the border, as a share of the shorter side
_NEAR = 16.0  # distance in RGB, each channel up to 255, up to which a colour is that of the background
_NOISES = 4.0  # or so many times the distance that is usual at the border, where that is more
_FARTHEST = 32.0
_PLAIN = 0.75  # share of the border that must have it; the thing may reach over the rest
_LEAST, _MOST = 0.002, 0.98  # shares of the image that a thing may have
_EDGE = 0.004  # radius of the soft edge, as a share of the shorter side
_HORIZON = 0.04  # share of a side
_ROUNDS = 5


class NotPlain(Exception):
    """No background can be told apart; the message is a phrase about the image."""


def foreground(pixels: np.ndarray) -> np.ndarray:
    """The mask of what stands before a plain background: uint8 [H, W], 255 where it is.

    Args:
        pixels: uint8 [H, W, 3].

    Raises:
        NotPlain: the border has several colours, or nothing or everything differs from it.
    """
    values = pixels.astype(np.float64)
    border = _border(pixels.shape[:2])
    distance, near = _distance(values, border)
    plain = float((distance[border] <= near).mean())
    if plain < _PLAIN:
        raise NotPlain(f"its background is not plain: only {plain:.0%} of its border has one colour")
    if _is_divided(distance > near) or _is_divided((distance > near).T):
        raise NotPlain("its background is not plain: something reaches across it from one side to the other")
    thing = ~_connected(distance <= near, border)
    share = float(thing.mean())
    if share < _LEAST:
        raise NotPlain("nothing stands out from its background")
    if share > _MOST:
        raise NotPlain(f"its background is not plain: {share:.0%} of the image differ from the colour of its border")
    radius = max(0.5, _EDGE * min(pixels.shape[:2]))
    return np.asarray(Image.fromarray((thing * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius)))


def _border(shape: tuple[int, int]) -> np.ndarray:
    width = max(1, round(_BORDER * min(shape)))
    border = np.ones(shape, dtype=bool)
    border[width:-width, width:-width] = False
    return border


def _is_divided(other: np.ndarray) -> bool:
    """Whether something else than the background is at both the left and the right side, away from the corners.

    That is a horizon. Shoulders, which are cut off at the bottom, reach the corners there.

    Args:
        other: bool [H, W].
    """
    width = max(1, round(_BORDER * min(other.shape)))
    return all(
        _longest_run_within(side.mean(axis=1) > 0.5) >= _HORIZON * len(other)
        for side in (other[:, :width], other[:, -width:])
    )


def _longest_run_within(line: np.ndarray) -> int:
    """Length of the longest run of true values that reaches neither end."""
    ends = np.flatnonzero(~line)
    return int(np.diff(ends).max() - 1) if len(ends) > 1 else 0


def _distance(values: np.ndarray, border: np.ndarray) -> tuple[np.ndarray, float]:
    """How far each colour is from the background's at its position, [H, W], and up to where it counts as that."""
    height, width = border.shape
    down, right = np.mgrid[0:height, 0:width]
    terms = np.stack([np.ones(border.shape), down / height - 0.5, right / width - 0.5], axis=2)
    known = terms[border]
    colours = values[border]
    distance, near = np.linalg.norm(values - np.median(colours, axis=0), axis=2), _NEAR
    inside = distance[border] <= _FARTHEST
    for _ in range(_ROUNDS):  # what reaches over the border must not bend the plane
        if inside.sum() < 3:
            break
        plane, *_ = np.linalg.lstsq(known[inside], colours[inside], rcond=None)
        distance = np.linalg.norm(values - terms @ plane, axis=2)
        near = float(np.clip(_NOISES * np.median(distance[border]), _NEAR, _FARTHEST))
        inside = distance[border] <= near
    return distance, near


def _connected(area: np.ndarray, border: np.ndarray) -> np.ndarray:
    """What of an area is connected to its part at the border, without going across corners: bool [H, W]."""
    reached = area & border
    while True:
        spread = _along_rows(area, reached)
        spread = _along_rows(area.T, spread.T).T
        if (spread == reached).all():
            return reached
        reached = spread


def _along_rows(area: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Each run of a row within an area is reached as a whole if any of it is."""
    closed = np.zeros((area.shape[0], area.shape[1] + 1), dtype=bool)  # runs end at the end of a row
    closed[:, :-1] = area
    runs = np.cumsum(~closed.ravel())
    flags = np.zeros(closed.shape, dtype=bool)
    flags[:, :-1] = reached
    hit = np.zeros(runs[-1] + 1, dtype=bool)
    hit[runs[flags.ravel()]] = True
    return (hit[runs].reshape(closed.shape) & closed)[:, :-1]
