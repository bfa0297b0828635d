"""The only thing that is trained: N new rows beside a frozen embedding table."""

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F


class ConceptEmbedding(nn.Layer):
    """A token embedding of V frozen rows and N trainable ones.

    Token ids below V look up the table, ids V to V+N-1 the new rows. The table is a buffer, so neither a gradient nor
    an optimizer state nor weight decay can ever reach it: frozen by construction, not by copying old values back.

    Args:
        table: float [V, D], the base model's embedding; kept, not copied.
        rows: float32 [N, D], initial values.

    Attributes:
        rows: the float32 parameter [N, D].
    """

    def __init__(self, table, rows: np.ndarray):
        super().__init__()
        if rows.ndim != 2 or rows.shape[1] != table.shape[1]:
            raise ValueError(f"rows of shape {rows.shape} do not fit a table of width {table.shape[1]}")
        # detach() shares the memory and turns a parameter into a plain tensor.
        self.register_buffer("table", table.detach(), persistable=False)
        self.rows = self.create_parameter(rows.shape, default_initializer=nn.initializer.Assign(rows))

    @property
    def first_id(self) -> int:
        """The token id of the first new row: V."""
        return self.table.shape[0]

    def forward(self, ids):
        """Look up int64 ids of any shape [...] and return [..., D]."""
        is_new = (ids >= self.first_id).unsqueeze(-1)  # (..., 1)
        old = F.embedding(paddle.clip(ids, max=self.first_id - 1), self.table)
        new = F.embedding(paddle.clip(ids - self.first_id, min=0), self.rows)
        return paddle.where(is_new, new.astype(old.dtype), old)  # (..., D)


def attach(text_encoder, rows: np.ndarray) -> ConceptEmbedding:
    """Put N trainable rows [N, D] beside a text encoder's table; an earlier attachment is replaced."""
    layer = text_encoder.get_input_embeddings()
    table = layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
    embedding = ConceptEmbedding(table, np.asarray(rows, dtype=np.float32))
    text_encoder.set_input_embeddings(embedding)
    return embedding


def table_of(text_encoder):
    """The frozen table [V, D] of a text encoder, whether rows are attached or not."""
    layer = text_encoder.get_input_embeddings()
    return layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
