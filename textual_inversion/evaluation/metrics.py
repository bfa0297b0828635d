"""Similarities between CLIP features: means of cosines on NumPy arrays.

Notation: n, m numbers of images or texts, P width of CLIP's common space. Features are float [n, P] of unit norm, as
`clip.ClipScorer` gives them, so a cosine is a dot product in [-1, 1].
"""

import numpy as np


def mean_cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Mean cosine over all pairs of one feature of `first` [n, P] and one of `second` [m, P].

    Raises:
        ValueError: one of them is empty.
    """
    if not len(first) or not len(second):
        raise ValueError("the mean over no pairs is not defined")
    # The mean over all pairs is the dot product of the means.
    return float(np.mean(first, axis=0, dtype=np.float64) @ np.mean(second, axis=0, dtype=np.float64))


def mean_cosine_among(features: np.ndarray) -> float:
    """Mean cosine over all pairs of two different features of [n, P].

    Raises:
        ValueError: fewer than two features.
    """
    n = len(features)
    if n < 2:
        raise ValueError("one feature has no pair")
    cosines = np.asarray(features, dtype=np.float64) @ np.asarray(features, dtype=np.float64).T  # (n, n)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def share_of_the_way(baseline: float, value: float, ceiling: float) -> float | None:
    """How far `value` has come from `baseline` (0) to `ceiling` (1); None where the ceiling is no higher."""
    return (value - baseline) / (ceiling - baseline) if ceiling > baseline else None


def ratio(value: float, baseline: float) -> float | None:
    """`value` as a share of `baseline`; None where the baseline is not positive."""
    return value / baseline if baseline > 0 else None
