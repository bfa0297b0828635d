"""The layouts that learned embeddings are written in for other programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual_inversion.formats.embedding_file import pdparams_content, safetensors_content
from textual_inversion.formats.learned_embedding import LearnedEmbedding


@dataclass(frozen=True)
class Target:
    """One layout.

    Attributes:
        ending: of its files.
        encode: the bytes of a file that holds some embeddings.
        holds_many: whether one file holds several concepts.
    """

    ending: str
    encode: Callable[[Sequence[LearnedEmbedding]], bytes]
    holds_many: bool = False


TARGETS = {
    "pdparams": Target(".pdparams", pdparams_content, holds_many=True),
    "safetensors": Target(".safetensors", lambda embeddings: safetensors_content(*embeddings)),
}
