"""Where each token of a prompt acts: cross-attention maps over the image, as DAAM takes them (arXiv 2210.04885).

In each cross-attention layer of the U-Net, each pixel of the latents shares its attention out among the tokens of the
prompt. These shares are averaged over heads, brought to the size of the latents, and averaged over layers and denoising
steps. So over all tokens they add up to 1 at every pixel. The layers compute what they always compute, by whichever
processor they have; the shares are computed beside that, and the images keep every bit.

Notation: B images, M tokens of the prompt in all its chunks, N pixels of a layer, H and W of the latents.
"""

import contextlib
import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from ppdiffusers.models.attention_processor import Attention

_MOST_HALVINGS = 8
_active: contextvars.ContextVar["AttentionMaps | None"] = contextvars.ContextVar("attention maps", default=None)
_installing = threading.Lock()  # one recording at a time: the layers are those of all threads


class AttentionMaps:
    """The maps of one batch of images, while it is drawn and after.

    Args:
        count: B. With guidance the U-Net is given twice as many; the prompts are the last of them.
        size: (H, W) of the latents.
    """

    def __init__(self, count: int, size: tuple[int, int]):
        self._count, self._size = count, size
        self._sums: dict[tuple[int, int], Tensor] = {}
        self._calls = 0

    def add(self, weights: Tensor) -> None:
        """Add the shares of one layer at one step: float [2B or B, N, M]."""
        own = weights[-self._count :].astype("float32")
        shape = _shape_of(own.shape[1], self._size)
        total = own.transpose([0, 2, 1]).reshape([self._count, own.shape[2], *shape])
        self._sums[shape] = self._sums[shape] + total if shape in self._sums else total
        self._calls += 1

    def maps(self) -> np.ndarray:
        """The shares of each token at each pixel: float32 [B, M, H, W], which add up to 1 over the tokens.

        Raises:
            ValueError: nothing was drawn.
        """
        if not self._calls:
            raise ValueError("no cross-attention was seen")
        whole = [F.interpolate(one, size=self._size, mode="bilinear") for one in self._sums.values()]
        return (sum(whole) / self._calls).numpy()


def _shape_of(pixels: int, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of a layer of N pixels: those of the latents, halved as often as need be and rounded up."""
    for halvings in range(_MOST_HALVINGS):
        height, width = (-(-side // 2**halvings) for side in size)
        if height * width == pixels:
            return height, width
    raise ValueError(f"a layer of {pixels} pixels does not belong to latents of {size}")


class _Watched:
    """An attention processor that does what another one does, and hands on the shares of cross-attention."""

    def __init__(self, processor: Any):
        self.processor = processor

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        maps = _active.get()
        if maps is not None and encoder_hidden_states is not None:
            maps.add(attention_weights(attn, hidden_states, encoder_hidden_states))
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, **options)


@paddle.no_grad()
def attention_weights(attn: Attention, hidden_states: Tensor, states: Tensor) -> Tensor:
    """The shares that each pixel gives to each token, averaged over heads.

    Args:
        hidden_states: float [B, N, C] or [B, C, H, W].
        states: of the prompt, float [B, M, E].

    Returns:
        float [B, N, M] that add up to 1 over M.
    """
    if hidden_states.ndim == 4:
        hidden_states = hidden_states.flatten(2).transpose([0, 2, 1])
    if attn.group_norm is not None:
        hidden_states = attn.group_norm(hidden_states.transpose([0, 2, 1])).transpose([0, 2, 1])
    if attn.norm_cross:
        states = attn.norm_encoder_hidden_states(states)
    query, key = (  # (B · heads, N or M, D)
        attn.head_to_batch_dim(layer(source), out_dim=3)
        for layer, source in ((attn.to_q, hidden_states), (attn.to_k, states))
    )
    scores = paddle.matmul(query * attn.scale, key, transpose_y=True).astype("float32")
    shares = F.softmax(scores)
    return shares.reshape([-1, attn.heads, *shares.shape[1:]]).mean(axis=1)


@contextlib.contextmanager
def recorded(unet: nn.Layer, count: int, size: tuple[int, int]) -> Iterator[AttentionMaps]:
    """Record the maps of what this thread computes with a U-Net inside the block.

    Args:
        count: of the images that are made together.
        size: (height, width) of their latents.
    """
    maps = AttentionMaps(count, size)
    with _installing:
        layers = [part for part in unet.sublayers() if isinstance(part, Attention)]
        before = [layer.processor for layer in layers]
        token = _active.set(maps)
        try:
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(_Watched(processor))
            yield maps
        finally:
            for layer, processor in zip(layers, before, strict=True):
                layer.set_processor(processor)
            _active.reset(token)


def word_map(maps: np.ndarray, positions: list[int]) -> np.ndarray:
    """The map of a word of several tokens, their mean: float32 [H, W], from the maps [M, H, W] of one image."""
    return maps[positions].mean(axis=0)


def share_outside(own: np.ndarray, inside: np.ndarray) -> float:
    """Which share of a map [H, W] lies outside the thing.

    Args:
        inside: float [H, W] in [0, 1]: how much of each pixel is of the thing.
    """
    return float((own * (1 - inside)).sum() / max(float(own.sum()), 1e-12))
