"""Freeze a module without breaking the gradient that passes through it."""

import math

import paddle
import paddle.nn.functional as F
from paddle import Tensor, nn
from paddle.autograd import PyLayer


class FrozenLayerNorm(nn.LayerNorm):
    """A layer normalisation (arXiv 1607.06450) whose scale and shift are not trained.

    On a CPU, Paddle 3.3's own layer computes a wrong input gradient when its scale has `stop_gradient`: it omits the
    scale. It also takes forty times as long for the gradient as for the result. So the backward pass for a CPU is
    written out here. Elsewhere the kernel gets an alias of the scale that counts as trainable, and the gradient of the
    alias is ignored. A compiled program has no such aliases; there the scale is applied outside the kernel.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.LayerNorm gives it
        """Normalise float [..., D]."""
        if input.stop_gradient or not paddle.is_grad_enabled():
            return super().forward(input)
        if not paddle.in_dynamic_mode():
            output = F.layer_norm(input, self._normalized_shape, epsilon=self._epsilon)
            output = output if self.weight is None else output * self.weight
            return output if self.bias is None else output + self.bias
        if input.place.is_cpu_place() and input.dtype in (paddle.float32, paddle.float64):
            return _LayerNorm.apply(input, self)
        weight = None if self.weight is None else self.weight.detach()  # the same memory
        if weight is not None:
            weight.stop_gradient = False
        return F.layer_norm(input, self._normalized_shape, weight, self.bias, self._epsilon)


class _LayerNorm(PyLayer):
    """With x̂ the normalised input, σ its std and g the upstream gradient times the scale, the gradient of the input is
    (g - mean(g) - x̂ · mean(g ∘ x̂)) / σ.

    Means over a row, and copies of one number along a row, are computed as matrix products, which use all cores.
    Paddle's own reductions and broadcasts on a CPU use one thread and take several times as long.
    """

    @staticmethod
    def forward(ctx, input: Tensor, layer: nn.LayerNorm) -> Tensor:  # noqa: A002
        ctx.save_for_backward(input)
        ctx.layer = layer
        return F.layer_norm(input, layer._normalized_shape, layer.weight, layer.bias, layer._epsilon)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (whole,), layer = ctx.saved_tensor(), ctx.layer
        width = math.prod(layer._normalized_shape)
        x, g = whole.reshape([-1, width]), gradient.reshape([-1, width])  # (R, D)
        to_mean, over_row = paddle.full([width, 1], 1 / width, x.dtype), paddle.ones([1, width], x.dtype)

        def row_means(values: Tensor) -> Tensor:  # (R, D) -> (R, 1)
            return paddle.matmul(values, to_mean)

        def spread(values: Tensor) -> Tensor:  # (R, 1) -> (R, D)
            return paddle.matmul(values, over_row)

        if layer.weight is not None:
            g = g * paddle.matmul(paddle.ones([x.shape[0], 1], x.dtype), layer.weight.reshape([1, width]))
        x = x - spread(row_means(x))
        per_row = paddle.rsqrt(row_means(x * x) + layer._epsilon)  # (R, 1), 1 / σ
        wide = spread(per_row)
        x = x * wide
        g = g - spread(row_means(g)) - x * spread(row_means(g * x))
        return (g * wide).reshape(whole.shape)


def freeze(layer: nn.Layer) -> nn.Layer:
    """Freeze all parameters, put the layer into evaluation mode, and return it."""
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    for part in layer.sublayers(include_self=True):
        if type(part) is nn.LayerNorm:
            part.__class__ = FrozenLayerNorm
    return layer.eval()
