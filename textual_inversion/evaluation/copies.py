"""Whether a word repeats its training images instead of drawing its concept anew.

For each drawn image the nearest training image is looked for, by two measures: the cosine of CLIP features, which says
that the same is shown, and the correlation of the pixels, which says that it stands at the same place. How near is too
near depends on the images: six photos from one table are near each other. So a distance, 1 - likeness, is measured
against the smallest distance between two training images. A drawn image is a copy where it is ten times as near to a
training image as two of those are to each other, by both measures. A word repeats its images where a third of what it
draws are copies.

Notation: n drawn images, m training images, P width of the features. Features are float [n, P] of unit norm.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

_SIDE = 32  # pixels that images are compared at: noise and sharpness do not count, places do
NEARER = 10.0  # times as near as two training images are
REPEATS_FROM = 1 / 3  # share of the drawn images
_SAME = 1e-3  # distance of an image that is in the folder twice


def pixel_features(images: Sequence[Image.Image]) -> np.ndarray:
    """Features whose cosine is the correlation of the pixels: float32 [n, 3 * side * side], unit norm."""
    rows = []
    for image in images:
        small = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float64)
        centred = (small - small.mean(axis=(0, 1))).ravel()
        rows.append(centred / max(float(np.linalg.norm(centred)), 1e-9))
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), 3 * _SIDE * _SIDE)


def copies_among(
    drawn: Sequence[np.ndarray], training: Sequence[np.ndarray], names: Sequence[str] = ()
) -> dict[str, Any] | None:
    """How near drawn images are to training images, by several measures that all have to agree.

    Args:
        drawn: for each measure the features of the drawn images, [n, P]; the first decides which image is nearest.
        training: the same of the training images, [m, P].
        names: of the training images.

    Returns:
        `nearest` and `likeness` of each drawn image; `among_training`, the likeness of the two training images that are
        most alike; `share` of copies; `repeats`, whether that is too many. None where there are no two different
        training images to compare with, or nothing was drawn.
    """
    likenesses = [np.asarray(d, np.float64) @ np.asarray(t, np.float64).T for d, t in zip(drawn, training, strict=True)]
    among = [_largest_among(np.asarray(t, np.float64)) for t in training]
    if not len(likenesses[0]) or None in among:
        return None
    nearest = likenesses[0].argmax(axis=1)
    rows = np.arange(len(nearest))
    is_copy = np.ones(len(nearest), dtype=bool)
    for own, most in zip(likenesses, among, strict=True):
        is_copy &= 1 - own[rows, nearest] <= (1 - most) / NEARER
    share = float(is_copy.mean())
    return {
        "nearest": [names[i] if names else int(i) for i in nearest],
        "likeness": [round(float(value), 4) for value in likenesses[0][rows, nearest]],
        "among_training": round(among[0], 4),
        "share": share,
        "repeats": share >= REPEATS_FROM,
    }


def _largest_among(features: np.ndarray) -> float | None:
    """The likeness of the two most alike of [m, P] that are not the same image; None where there are no two."""
    likeness = features @ features.T
    pairs = likeness[np.triu_indices(len(features), 1)]
    different = pairs[pairs < 1 - _SAME]
    return float(different.max()) if len(different) else None


def sentence(copies: dict[str, Any] | None) -> str | None:
    """What is said of a word that repeats its images; None of one that does not."""
    if not copies or not copies["repeats"]:
        return None
    return (
        f"this word repeats its pictures: {copies['share']:.0%} of what it draws is a copy of a training image, ten "
        "times as near as two of those are to each other; train for fewer steps, or with more images"
    )
