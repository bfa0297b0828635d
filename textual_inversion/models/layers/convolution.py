"""Convolutions of frozen layers in blocks of rows on a CPU, where no gradient is needed: exact, and faster.

Paddle multiplies a filter with a matrix that holds, for every position in an image, all numbers under the filter
(Chellapilla et al., 2006). For a layer of the VAE with 256 channels at 256x256 pixels this matrix has 604 MB, all of
which goes through main memory. The matrix of a few rows stays in the CPU's cache.
"""

from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from ppdiffusers.models.lora import LoRACompatibleConv

MATRIX = 10_000_000  # bytes of a block's matrix; twice as much is slower again where the cache has 32 MB


class BlockwiseConv2D(nn.Conv2D):
    """A convolution that works in blocks of rows where that is faster."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve float [B, C, H, W]."""
        rows = _rows_of_block(self, x)
        return nn.Conv2D.forward(self, x) if rows is None else _in_blocks(self, x, rows)


class BlockwiseLoRAConv(LoRACompatibleConv):
    """The same for ppdiffusers' convolutions; one with a LoRA works as usual."""

    def forward(self, hidden_states: Tensor, scale: float = 1.0) -> Tensor:
        """Convolve float [B, C, H, W]."""
        rows = _rows_of_block(self, hidden_states)
        if rows is None:  # not super(), with which paddle.jit.to_static would recurse forever
            return LoRACompatibleConv.forward(self, hidden_states, scale)
        return _in_blocks(self, hidden_states, rows)


_BLOCKWISE = {nn.Conv2D: BlockwiseConv2D, LoRACompatibleConv: BlockwiseLoRAConv}


def convolve_in_blocks(layer: nn.Layer) -> None:
    """Let every plain convolution in a module work in blocks where that is faster."""
    for part in layer.sublayers(include_self=True):
        part.__class__ = _BLOCKWISE.get(type(part), type(part))


def _rows_of_block(layer: nn.Conv2D, hidden_states: Tensor) -> int | None:
    """Rows of the result to compute at once; None where blocks are not valid for this input, or not faster."""
    if not paddle.in_dynamic_mode() or not hidden_states.place.is_cpu_place() or hidden_states.dtype != paddle.float32:
        return None
    if paddle.is_grad_enabled() and not (hidden_states.stop_gradient and layer.weight.stop_gradient):
        return None
    if getattr(layer, "lora_layer", None) is not None or layer._groups != 1 or _pair(layer._dilation) != (1, 1):
        return None
    padding, (high, wide) = _pair(layer._padding), layer._kernel_size
    if padding is None or (high, wide) == (1, 1) or layer._padding_mode != "zeros" or layer._data_format != "NCHW":
        return None
    (_, channels, height, width), (down, right) = hidden_states.shape, _pair(layer._stride)
    results, columns = (height + 2 * padding[0] - high) // down + 1, (width + 2 * padding[1] - wide) // right + 1
    row = 4 * channels * high * wide * columns  # bytes of the matrix
    if results * row <= MATRIX:
        return None
    blocks = -(-results // max(1, MATRIX // row))
    return -(-results // blocks)


def _in_blocks(layer: nn.Conv2D, hidden_states: Tensor, rows: int) -> Tensor:
    high, stride, (above, beside) = layer._kernel_size[0], _pair(layer._stride), _pair(layer._padding)
    height = hidden_states.shape[2]
    results = (height + 2 * above - high) // stride[0] + 1
    blocks = []
    for first in range(0, results, rows):
        begin, end = first * stride[0] - above, (min(first + rows, results) - 1) * stride[0] - above + high
        outside = [max(0, -begin), max(0, end - height)]
        seen = hidden_states[:, :, max(0, begin) : min(end, height)]
        padding = [0, beside] if outside == [0, 0] else [[0, 0], [0, 0], outside, [beside, beside]]
        blocks.append(F.conv2d(seen, layer.weight, layer.bias, stride, padding))
    return paddle.concat(blocks, axis=2)


def _pair(value: Any) -> tuple[int, int] | None:
    """The two numbers of a setting for both directions; None for anything else, such as "same"."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(one, int) for one in value):
        return tuple(value)
    return None
