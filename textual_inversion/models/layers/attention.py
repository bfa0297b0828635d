"""Attention in blocks of rows on a CPU, for the U-Net and the VAE: exact, faster, and in less memory.

The attention weights of all heads are a matrix of H·N·M numbers, 32 MB for an image of 256x256 pixels and 537 MB for
one of 512x512. ppdiffusers computes it as a whole, so that every operation on it goes through main memory. Here only a
few rows at a time are computed, which stay in the CPU's cache. A large matrix is not even kept for the backward pass,
which computes each block again (arXiv 2112.05682, arXiv 2205.14135).
"""

from collections.abc import Iterator
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer
from ppdiffusers.models.attention_processor import Attention, AttnProcessor

ROWS = 128  # of a block: with 1024 columns half a megabyte
_SMALL = 2**22  # attention weights; with fewer, one pass is as fast
_KEEP = 2**26  # bytes of weights that a layer may keep for the backward pass


def attend(query: Tensor, key: Tensor, value: Tensor, *, keep: int = _KEEP) -> Tensor:
    """softmax(query · keyᵀ) · value, head by head and block by block.

    Args:
        query: float32 [H, N, D], already scaled.
        key, value: float32 [H, M, D].
        keep: attention weights of at most this many bytes are kept for the backward pass; more are computed again.

    Returns:
        float32 [H, N, D]; gradients flow to all three.
    """
    if paddle.is_grad_enabled() and not all(one.stop_gradient for one in (query, key, value)):
        heads, rows, columns = query.shape[0], query.shape[1], key.shape[1]
        return _Blockwise.apply(query, key, value, 4 * heads * rows * columns <= keep)
    return _forward(query, key, value, None)


class _Blockwise(PyLayer):
    """With P the weights, O the result and G its gradient: V' = PᵀG, S' = P ∘ (GVᵀ - rowsum(G ∘ O)), Q' = S'K,
    K' = S'ᵀQ (arXiv 2205.14135, section B.2)."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, keeps: bool) -> Tensor:
        ctx.weights = [] if keeps else None
        ctx.wanted = [not one.stop_gradient for one in (query, key, value)]
        result = _forward(query, key, value, ctx.weights)
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, result = ctx.saved_tensor()
        # One more column in each factor subtracts rowsum(G ∘ O) within the product GVᵀ.
        taken = (gradient * result).sum(-1, keepdim=True)
        upstream = paddle.concat([gradient, -taken], axis=-1)  # (H, N, D + 1)
        wide_value = paddle.concat([value, paddle.ones([*value.shape[:-1], 1], value.dtype)], axis=-1)
        kept = iter(ctx.weights) if ctx.weights is not None else None
        found = [_head_backward(*one, kept) for one in zip(query, key, wide_value, gradient, upstream, strict=True)]
        ctx.weights = None
        # Paddle wants None where no gradient is needed: for the query, if only the prompt depends on trainable vectors.
        return tuple(
            paddle.stack(own) if wanted else None
            for own, wanted in zip(zip(*found, strict=True), ctx.wanted, strict=True)
        )


def _forward(query: Tensor, key: Tensor, value: Tensor, kept: list | None) -> Tensor:
    """The result; the blocks of weights are appended to `kept`, unless it is None."""
    heads = []
    for q, k, v in zip(query, key, value, strict=True):
        blocks = []
        for first in range(0, q.shape[0], ROWS):
            weights = F.softmax(paddle.matmul(q[first : first + ROWS], k, transpose_y=True))  # (rows, M)
            blocks.append(paddle.matmul(weights, v))
            if kept is not None:
                kept.append(weights)
        heads.append(paddle.concat(blocks))
    return paddle.stack(heads)


def _head_backward(
    query: Tensor, key: Tensor, wide_value: Tensor, gradient: Tensor, upstream: Tensor, kept: Iterator[Tensor] | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of one head's query [N, D], key and value [M, D]."""
    to_query, to_key, to_value = [], paddle.zeros_like(key), paddle.zeros_like(key)
    for first in range(0, query.shape[0], ROWS):
        rows = slice(first, first + ROWS)
        q = query[rows]
        weights = next(kept) if kept is not None else F.softmax(paddle.matmul(q, key, transpose_y=True))
        to_value.add_(paddle.matmul(weights, gradient[rows], transpose_x=True))
        scores = paddle.matmul(upstream[rows], wide_value, transpose_y=True).multiply_(weights)  # their gradient
        to_query.append(paddle.matmul(scores, key))
        to_key.add_(paddle.matmul(scores, q, transpose_x=True))
    return paddle.concat(to_query), to_key, to_value


class BlockwiseAttnProcessor(AttnProcessor):
    """ppdiffusers' own processor, except that `attend` computes large attention on a CPU.

    Attributes:
        keep: bytes, as in `attend`.
    """

    def __init__(self, keep: int = _KEEP):
        super().__init__()
        self.keep = keep

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Attention of float [B, N, C] or [B, C, H, W] to itself or to float [B, M, E]; the shape stays."""
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if attention_mask is not None or not _is_for_blocks(attn, hidden_states, states):
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, **options)
        shape, residual = hidden_states.shape, hidden_states
        if len(shape) == 4:
            hidden_states = hidden_states.flatten(2).transpose([0, 2, 1])  # (B, N, C)
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose([0, 2, 1])).transpose([0, 2, 1])
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(layer(source), out_dim=3)  # (B · heads, N or M, D)
            for layer, source in ((attn.to_q, hidden_states), (attn.to_k, states), (attn.to_v, states))
        )
        result = attend(query * attn.scale, key, value, keep=self.keep)
        result = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(result, in_dim=3)))
        if len(shape) == 4:
            result = result.transpose([0, 2, 1]).reshape(shape)
        if attn.residual_connection:
            result = result + residual
        return result / attn.rescale_output_factor


def _is_for_blocks(attn: Attention, hidden_states: Tensor, states: Tensor) -> bool:
    """Whether blocks are valid for this layer and its input, and faster."""
    if not paddle.in_dynamic_mode() or not hidden_states.place.is_cpu_place() or hidden_states.dtype != paddle.float32:
        return False
    if attn.spatial_norm is not None or attn.norm_cross:
        return False
    rows, columns = (s.shape[2] * s.shape[3] if s.ndim == 4 else s.shape[1] for s in (hidden_states, states))
    return hidden_states.shape[0] * attn.heads * rows * columns >= _SMALL


def work_in_blocks(layer: nn.Layer, keep: int = _KEEP) -> None:
    """Let the attention layers of a module work in blocks, except those with a special processor.

    Args:
        keep: bytes of attention weights that each of them may keep for the backward pass; 0: none.
    """
    for part in layer.sublayers(include_self=True):
        if isinstance(part, Attention) and type(part.processor) in (AttnProcessor, BlockwiseAttnProcessor):
            part.set_processor(BlockwiseAttnProcessor(keep))
