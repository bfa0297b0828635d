"""Whether there may be text in an image: a line of short strokes that fall apart into letters.

A row of cells of 8x8 pixels is looked for in which strokes of two brightnesses follow each other. Ears, patterns and
fur give such rows, too, so it must show letters: ink of one brightness that begins and ends at the same heights all
along the row, with nothing above and below it, and with gaps between one letter and the next. What touches its
surroundings, as outlines and textures do, is no letter, and neither are the dots of an outline that is thinner than a
pixel. Letters stand on one line and fill it: two eyes and what is around them do not. Nothing is read, and large or
slanted letters are missed.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image

_VIEW = 256  # pixels of the longer side, where text is sought
_CELL = 8  # pixels
_LINE_CELLS = 7  # of a row of strokes, at the least
_LETTERS = 5  # of a line, at the least
_INK = 0.6  # of the way from the background's brightness to the ink's, from which a pixel is ink
_SHORTEST = 4  # pixels of a line's height; nobody could read lower letters
_QUIET = 0.02  # share of ink in a row of pixels, up to which it lies outside the letters
_WIDEST = 1.8  # of a letter, or of two that touch, in heights of the line
_LOWEST = 0.4  # unbroken height of a letter, in heights of the line
_BASE = 0.15  # how far the foot of a letter may lie from the median foot, in heights of the line
_ON_BASE = 0.6  # share of the letters that stand there; others reach below, as g and p do
_FILLED = 0.1  # of the line's pixels, at the least


def has_text(image: Image.Image) -> bool:
    """Whether there is a line of what may be letters."""
    view = image.convert("L")
    view.thumbnail((_VIEW, _VIEW), Image.Resampling.LANCZOS)
    grey = np.asarray(view, np.float32) / 255
    cells = _stroke_cells(grey)
    return any(_has_letters(box) for row in range(len(cells)) for box in _boxes(grey, cells, row))


def _stroke_cells(grey: np.ndarray) -> np.ndarray:
    """Which cells of 8x8 pixels hold strokes: bool [H / 8, W / 8], for a brightness float32 [H, W] of 0 to 1."""
    rows, columns = (side // _CELL for side in grey.shape)
    cells = grey[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).swapaxes(1, 2)
    low, high = cells.min(axis=(2, 3)), cells.max(axis=(2, 3))
    contrast = high - low
    middle = (low + high)[..., None, None] / 2
    is_light = cells > middle
    across = (is_light[..., 1:] != is_light[..., :-1]).mean(axis=(2, 3))  # turns between neighbours in a row
    down = (is_light[..., 1:, :] != is_light[..., :-1, :]).mean(axis=(2, 3))
    share = is_light.mean(axis=(2, 3))
    return (contrast > 0.35) & (across > 0.14) & (down > 0.08) & (share > 0.12) & (share < 0.88)


def _runs(row: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of the runs of true values that are long enough for a line; a single gap is a blank."""
    closed = row.copy()
    closed[1:-1] |= row[:-2] & row[2:]
    return [(first, last) for first, last in _stretches(closed) if last - first >= _LINE_CELLS]


def _boxes(grey: np.ndarray, cells: np.ndarray, row: int) -> Iterator[np.ndarray]:
    """The pixels of what may be lines in a row of cells, with a cell above and below, float32 [h, w]."""
    for first, last in _runs(cells[row]):
        top, bottom = row, row
        while top > 0 and cells[top - 1, first:last].mean() > 0.5:
            top -= 1
        while bottom + 1 < len(cells) and cells[bottom + 1, first:last].mean() > 0.5:
            bottom += 1
        if bottom - top < 4 and last - first >= 3 * (bottom - top + 1):
            yield grey[max(0, top - 1) * _CELL : (bottom + 2) * _CELL, first * _CELL : last * _CELL]


def _has_letters(box: np.ndarray) -> bool:
    """Whether light or dark ink in a box stands in a line of letters."""
    return any(_is_lettered(values) for values in (box, -box))


def _is_lettered(values: np.ndarray) -> bool:
    """Whether what is brightest in float32 [h, w] falls apart into a line of letters."""
    paper, ink = np.quantile(values, (0.5, 0.995))
    is_ink = values > paper + _INK * (ink - paper)
    rows = _stretches(is_ink.mean(axis=1) > _QUIET)
    inside = [(top, bottom) for top, bottom in rows if top > 0 and bottom < len(values)]  # with quiet around them
    return any(_letters(is_ink[top:bottom]) for top, bottom in inside if bottom - top >= _SHORTEST)


def _letters(is_ink: np.ndarray) -> bool:
    """Whether a line, bool [h, w], is made of letters: most parts are high enough, not too wide, and on one base."""
    height = len(is_ink)
    parts = _stretches(is_ink.any(axis=0))
    feet = []
    for first, last in parts:
        top, foot = max(_stretches(is_ink[:, first:last].any(axis=1)), key=lambda rows: rows[1] - rows[0])
        if last - first <= _WIDEST * height and foot - top >= _LOWEST * height:
            feet.append(foot)
    if len(feet) < max(_LETTERS, 0.6 * len(parts)) or is_ink.mean() < _FILLED:
        return False
    off_base = np.abs(np.array(feet) - np.median(feet))
    return int((off_base <= max(1, _BASE * height)).sum()) >= max(_LETTERS, _ON_BASE * len(feet))


def _stretches(row: np.ndarray) -> list[tuple[int, int]]:
    """(first, last + 1) of the stretches of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
