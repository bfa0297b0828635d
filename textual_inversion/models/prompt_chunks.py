"""Prompts of any length as chunks, each of which a text encoder reads by itself, and the weights of their tokens.

A prompt's hidden states are those of its chunks, one after the other; each chunk has a start and an end token of its
own. Weights act as in AUTOMATIC1111's web UI and in the `lpw` pipelines of ppdiffusers: they multiply the hidden states
of their tokens, and then the whole is scaled so that its mean is what it was.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import paddle

from textual_inversion.formats.errors import printable
from textual_inversion.system.device import to_device
from textual_inversion.system.errors import SettingsError

LARGEST_WEIGHT = 100.0  # images are noise long before; hidden states in half precision hold no more than 65,504


@dataclass
class Chunk:
    """A part of a prompt that a text encoder reads at once: token ids, and the weight of each."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class TokenIds:
    """The token ids of B prompts in n chunks each.

    Attributes:
        ids: int64 [B * n, L]: all chunks of the first prompt, then those of the second.
        weights: float32 [B, n * L], of each token; None: all weights are 1.
        chunks: n.
    """

    ids: np.ndarray
    weights: np.ndarray | None = None
    chunks: int = 1

    def joined(self, states: paddle.Tensor) -> paddle.Tensor:
        """The weighted hidden states of the prompts [B, n * L, D], from those of their chunks [B * n, L, D]."""
        if self.chunks > 1:
            states = states.reshape([-1, self.chunks * states.shape[1], states.shape[2]])
        return states if self.weights is None else weighted(states, self.weights)

    def first(self, pooled: paddle.Tensor) -> paddle.Tensor:
        """The pooled states of the prompts [B, P]: those of their first chunks, from those of all chunks [B * n, P]."""
        return pooled[:: self.chunks] if self.chunks > 1 else pooled


def weighted(states: paddle.Tensor, weights: np.ndarray) -> paddle.Tensor:
    """Multiply hidden states by the weights of their tokens, and restore the mean over each prompt.

    Where the mean cannot be restored, as after weights that bring it to 0, it is left. A prompt whose weights are all 1
    keeps every bit.

    Args:
        states: float [B, M, D].
        weights: float32 [B, M].
    """
    has_weights = (weights != 1).any(axis=1)  # [B]
    if not has_weights.any():
        return states
    exact = states.astype("float32")
    scaled = exact * to_device(weights).unsqueeze(-1)
    ratio = exact.mean(axis=[1, 2], keepdim=True) / scaled.mean(axis=[1, 2], keepdim=True)  # (B, 1, 1)
    restores = paddle.isfinite(ratio) & to_device(has_weights).reshape([-1, 1, 1])
    return (scaled * paddle.where(restores, ratio, paddle.ones_like(ratio))).astype(states.dtype)


def check_weights(pieces: Iterable[tuple[str, float]]) -> None:
    """Refuse a piece of a prompt with a weight out of bounds; raises SettingsError."""
    for text, weight in pieces:
        if text.strip() and not abs(weight) <= LARGEST_WEIGHT:  # NaN is out of bounds too
            raise SettingsError(
                f"{printable(text.strip(), 40)!r} has the weight {weight:g}; weights go from {-LARGEST_WEIGHT:g} to "
                f"{LARGEST_WEIGHT:g}, those of nested marks multiplied"
            )


def packed(units: Iterable[tuple[str, list[int], float]], room: int) -> list[Chunk]:
    """Tokens in chunks of at most `room`; the ids of one word are never in two chunks.

    Args:
        units: (token, its ids, weight); a word of several vectors has several ids.

    Returns:
        At least one chunk.

    Raises:
        SettingsError: a word is larger than a chunk.
    """
    chunks = [Chunk()]
    for word, ids, weight in units:
        if len(ids) > room:
            raise SettingsError(
                f"{printable(word, 40)} has {len(ids)} vectors, and a chunk of a prompt has room for {room}; leave it "
                "out, or learn it with fewer vectors"
            )
        if len(chunks[-1].ids) + len(ids) > room:
            chunks.append(Chunk())
        chunks[-1].ids += ids
        chunks[-1].weights += [weight] * len(ids)
    return chunks


def laid_out(
    prompts: Sequence[Sequence[Chunk]], count: int, length: int, frame: Callable[[list[int]], list[int]], padding: int
) -> TokenIds:
    """Prompts as the encoder takes them: each in `count` chunks of `length` tokens (L), the last of which may be empty.

    Start, end and padding tokens have the weight 1. An empty chunk is what an empty prompt is.

    Args:
        frame: puts the start token before ids, and the end token behind them.
        padding: the padding token's id.
    """
    ids = np.full((len(prompts), count, length), padding, dtype=np.int64)
    weights = np.ones(ids.shape, dtype=np.float32)
    for row, chunks in enumerate(prompts):
        if len(chunks) > count:
            raise SettingsError(f"a prompt of {len(chunks)} chunks does not fit into {count}; encode it in more")
        for position in range(count):
            chunk = chunks[position] if position < len(chunks) else Chunk()
            framed = frame(chunk.ids)
            ids[row, position, : len(framed)] = framed
            weights[row, position, 1 : 1 + len(chunk.weights)] = chunk.weights  # behind the start token
    return TokenIds(ids.reshape(-1, length), weights.reshape(len(prompts), -1), count)
