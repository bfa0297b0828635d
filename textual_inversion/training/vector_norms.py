"""Vectors that keep one norm: after each step only their direction has changed."""

from collections.abc import Mapping
from typing import Any

import paddle


class KeptNorms:
    """Gives vectors the mean or the median norm of the rows of their text encoder's table.

    Args:
        embeddings: text encoder name -> its ConceptEmbedding.
        kind: "mean", "median", or None: nothing is done.
    """

    def __init__(self, embeddings: Mapping[str, Any], kind: str | None):
        self._targets: dict[int, float] = {}
        for embedding in embeddings.values() if kind else ():
            norms = embedding.table.norm(axis=1)
            target = float(norms.mean() if kind == "mean" else norms.median())
            self._targets |= {id(part): target for part in embedding.parts}

    @paddle.no_grad()
    def keep(self, active: list) -> None:
        """Scale the parameters, float32 [N, D] each; a vector of zeros stays as it is."""
        for vectors in active:
            if id(vectors) in self._targets:
                norms = vectors.norm(axis=1, keepdim=True)  # (N, 1)
                scale = self._targets[id(vectors)] / paddle.where(norms > 0, norms, paddle.ones_like(norms))
                paddle.assign(vectors * scale, output=vectors)
