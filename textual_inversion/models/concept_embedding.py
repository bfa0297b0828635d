"""The only thing that is trained: N new rows beside a frozen embedding table."""

from collections.abc import Sequence

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F


class ConceptEmbedding(nn.Layer):
    """A token embedding of V frozen rows and N trainable ones.

    Token ids below V look up the table and ids V to V+N-1 the new rows. Ids V+N to V+2N-1 are the new rows again, held
    still: they read the same values and get no gradient. Ids V+2N to V+3N-1 are what the rows started from, so that
    before and after can be drawn at any time, and nothing has to be put in the rows' place for it. The table and the
    start are buffers, so neither a gradient nor an optimizer state nor weight decay can ever reach them: frozen by
    construction, not by copying old values back.

    Args:
        table: float [V, D], the base model's embedding; kept, not copied.
        parts: initial values, float32 [N_i, D] each, one for each concept; N is the sum of the N_i.

    Attributes:
        parts: the float32 parameters [N_i, D].
    """

    def __init__(self, table, parts: Sequence[np.ndarray]):
        super().__init__()
        for part in parts:
            if part.ndim != 2 or part.shape[1] != table.shape[1]:
                raise ValueError(f"rows of shape {part.shape} do not fit a table of width {table.shape[1]}")
        # detach() shares the memory and turns a parameter into a plain tensor.
        self.register_buffer("table", table.detach(), persistable=False)
        self.register_buffer("start", paddle.to_tensor(np.concatenate(parts)), persistable=False)
        self.parts = nn.ParameterList(
            [self.create_parameter(part.shape, default_initializer=nn.initializer.Assign(part)) for part in parts]
        )

    @property
    def rows(self):
        """All new rows, float32 [N, D]; where there is one part, the parameter itself."""
        return self.parts[0] if len(self.parts) == 1 else paddle.concat(list(self.parts))

    @property
    def first_id(self) -> int:
        """The token id of the first new row: V."""
        return self.table.shape[0]

    def forward(self, ids):
        """Look up int64 ids of any shape [...] and return [..., D]."""
        is_new = (ids >= self.first_id).unsqueeze(-1)  # (..., 1)
        old = F.embedding(paddle.clip(ids, max=self.first_id - 1), self.table)
        rows = self.rows
        new = F.embedding(paddle.clip(ids - self.first_id, min=0), paddle.concat([rows, rows.detach(), self.start]))
        return paddle.where(is_new, new.astype(old.dtype), old)  # (..., D)


def attach(text_encoder, rows: np.ndarray | Sequence[np.ndarray]) -> ConceptEmbedding:
    """Put trainable rows beside a text encoder's table; an earlier attachment is replaced.

    Args:
        rows: float [N, D], or one such array for each concept.
    """
    layer = text_encoder.get_input_embeddings()
    table = layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
    parts = [rows] if isinstance(rows, np.ndarray) else list(rows)
    embedding = ConceptEmbedding(table, [np.asarray(part, dtype=np.float32) for part in parts])
    text_encoder.set_input_embeddings(embedding)
    return embedding


def table_of(text_encoder):
    """The frozen table [V, D] of a text encoder, whether rows are attached or not."""
    layer = text_encoder.get_input_embeddings()
    return layer.table if isinstance(layer, ConceptEmbedding) else layer.weight
