"""How far two files of the same concepts are apart, in a line."""

from collections.abc import Mapping

import numpy as np

from textual_inversion.formats.errors import printable

_Vectors = Mapping[str, Mapping[str, np.ndarray]]


def distance_line(first: _Vectors, second: _Vectors) -> str:
    """The largest difference of two values, and the smallest cosine of two vectors.

    Args:
        first, second: placeholder token -> text encoder -> float32 [N, D].
    """
    if first.keys() != second.keys():
        return f"they hold other concepts: {_listed(first)}, and {_listed(second)}"
    largest, cosine = 0.0, 1.0
    for token, encoders in first.items():
        if {k: v.shape for k, v in encoders.items()} != {k: v.shape for k, v in second[token].items()}:
            return f"the vectors of {printable(token, 60)} have other shapes"
        for name, own in encoders.items():
            one, other = own.astype(np.float64), second[token][name].astype(np.float64)
            largest = max(largest, float(abs(one - other).max()))
            norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            cosine = min(cosine, float(((one * other).sum(axis=1) / np.maximum(norms, 1e-30)).min()))
    return f"the vectors differ by {largest:.2g} at most; the smallest cosine of two is {cosine:.6f}"


def _listed(tokens: _Vectors) -> str:
    return ", ".join(printable(token, 60) for token in tokens)
