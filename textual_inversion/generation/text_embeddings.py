"""The texts of many images -> what a pipeline takes for them, encoded when the first image needs them.

Each text is encoded alone, so that its embedding does not depend on which others there are, or on which of them this
process needs: to the bit, which a batch of several texts would not keep. Each is encoded once and kept until the last
batch that needs it; where that would take more memory than `MOST_BYTES`, those that are needed last are dropped and
encoded again when their time comes.
"""

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import paddle

from textual_inversion.models.base_model import BaseModel
from textual_inversion.models.prompt_encoder import Reading

MOST_BYTES = 256 << 20  # 1,100 texts of Stable Diffusion 1.x, 400 of XL


@dataclass(frozen=True)
class Text:
    """What decides the embedding of a prompt.

    Attributes:
        initial: placeholders stand for their initial vectors.
        chunks: in how many chunks it is encoded, its marks of weights read; None: as it stands, in one.
    """

    prompt: str
    initial: bool = False
    chunks: int | None = None


class TextEmbeddings:
    """The embeddings of the texts of batches, which are asked for in order.

    Args:
        model: its prompt encoders and text encoders.
        uses: the texts that each batch needs.
        most_bytes: kept at once, unless a single batch needs more.
    """

    def __init__(self, model: BaseModel, uses: Sequence[Collection[Text]], most_bytes: int = MOST_BYTES):
        self._model, self._uses, self._most_bytes = model, uses, most_bytes
        self._turns: dict[Text, deque[int]] = {}  # in which each text is still needed
        for turn, texts in enumerate(uses):
            for text in texts:
                self._turns.setdefault(text, deque()).append(turn)
        self._kept: dict[Text, dict[str, paddle.Tensor]] = {}

    def of(self, turn: int) -> Mapping[Text, dict[str, paddle.Tensor]]:
        """Text -> a pipeline's arguments ([L, D] hidden states, for SDXL [P] pooled ones) for batch number `turn`."""
        wanted = list(self._uses[turn])
        found = {text: self._kept.get(text) or self._encoded(text) for text in wanted}
        for text in wanted:
            turns = self._turns[text]
            while turns and turns[0] <= turn:
                turns.popleft()
        self._kept = {text: kept for text, kept in (self._kept | found).items() if self._turns[text]}
        self._drop()
        return found

    def _encoded(self, text: Text) -> dict[str, paddle.Tensor]:
        with paddle.no_grad():
            encoded = self._model.encode_prompts([text.prompt], [Reading(initial=text.initial)], None, text.chunks)
            return encoded.for_pipeline()[0]

    def _drop(self) -> None:
        """Keep what fits, and of that what is needed soonest."""
        size = {text: sum(one.size * one.element_size() for one in kept.values()) for text, kept in self._kept.items()}
        excess = sum(size.values()) - self._most_bytes
        for text in sorted(self._kept, key=lambda text: -self._turns[text][0]) if excess > 0 else ():
            if excess <= 0:
                break
            excess -= size[text]
            del self._kept[text]
