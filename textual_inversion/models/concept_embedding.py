"""The only trainable parameters: N embedding vectors beside a frozen embedding table."""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F


class ConceptEmbedding(nn.Layer):
    """A token embedding of V frozen vectors and N trainable ones.

    Token ids below V read the table, and ids V to V+N-1 the trainable vectors. Ids V+N to V+2N-1 read the same vectors
    detached, so that they get no gradient. Ids V+2N to V+3N-1 read the initial values of the vectors, so that images
    from before training can be made at any time. The table and the initial values are buffers, so no gradient,
    optimizer state or weight decay can reach them: they are frozen by construction, not by copying old values back.

    Args:
        table: float [V, D], the base model's embedding table; kept, not copied.
        parts: initial values, float32 [N_i, D] each, one array for each concept; N is the sum of the N_i, and may be 0.

    Attributes:
        parts: the float32 parameters [N_i, D].

    Raises:
        ValueError: the width of a part is not the table's.
    """

    def __init__(self, table: paddle.Tensor, parts: Sequence[np.ndarray]):
        super().__init__()
        for part in parts:
            if part.ndim != 2 or part.shape[1] != table.shape[1]:
                raise ValueError(f"vectors of shape {part.shape} do not fit a table of width {table.shape[1]}")
        # detach() shares the memory and turns a parameter into a plain tensor.
        self.register_buffer("table", table.detach(), persistable=False)
        none = np.empty((0, table.shape[1]), np.float32)
        self.register_buffer("start", paddle.to_tensor(np.concatenate([none, *parts])), persistable=False)
        self.parts = nn.ParameterList(
            [self.create_parameter(part.shape, default_initializer=nn.initializer.Assign(part)) for part in parts]
        )

    @property
    def vectors(self) -> paddle.Tensor:
        """All trainable vectors, float32 [N, D]; where there is one part, the parameter itself."""
        return self.parts[0] if len(self.parts) == 1 else paddle.concat(list(self.parts))

    @property
    def first_id(self) -> int:
        """The token id of the first trainable vector: V."""
        return self.table.shape[0]

    def forward(self, ids: paddle.Tensor) -> paddle.Tensor:
        """The vectors [..., D] of int64 ids of any shape [...]."""
        if not len(self.parts):  # after all words were detached
            return F.embedding(ids, self.table)
        is_new = (ids >= self.first_id).unsqueeze(-1)  # (..., 1)
        old = F.embedding(paddle.clip(ids, max=self.first_id - 1), self.table)
        own = self.vectors
        new = F.embedding(paddle.clip(ids - self.first_id, min=0), paddle.concat([own, own.detach(), self.start]))
        return paddle.where(is_new, new.astype(old.dtype), old)  # (..., D)


def attach(text_encoder: nn.Layer, vectors: np.ndarray | Sequence[np.ndarray]) -> ConceptEmbedding:
    """Put trainable vectors beside a text encoder's table, and remove any attached before.

    What casts the output of those that were attached before, in half precision, casts the new ones' too.

    Args:
        vectors: initial values, float [N, D], or one such array for each concept.
    """
    layer = text_encoder.get_input_embeddings()
    table = layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
    parts = [vectors] if isinstance(vectors, np.ndarray) else list(vectors)
    embedding = ConceptEmbedding(table, [np.asarray(part, dtype=np.float32) for part in parts])
    if isinstance(layer, ConceptEmbedding):
        for hook in layer._forward_post_hooks.values():
            embedding.register_forward_post_hook(hook)
    text_encoder.set_input_embeddings(embedding)
    return embedding


def table_of(text_encoder: nn.Layer) -> paddle.Tensor:
    """The frozen table [V, D] of a text encoder, with or without vectors attached."""
    layer = text_encoder.get_input_embeddings()
    return layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
