"""Take a module out of training without breaking the gradient that passes through it."""

import paddle
import paddle.nn.functional as F
from paddle import nn


class FrozenLayerNorm(nn.LayerNorm):
    """A layer normalisation (arXiv 1607.06450) whose scale and shift are not trained.

    Paddle 3.3's own layer computes a wrong gradient of its input on a CPU when its scale has `stop_gradient`: it leaves
    the scale out. So where a gradient is wanted, the kernel gets the scale under another name, as if it were trained;
    the gradient of that goes nowhere. A compiled program has no such names: there the scale is applied outside.
    """

    def forward(self, input):  # noqa: A002 - the name that nn.LayerNorm gives it
        """Normalise float [..., D]."""
        if input.stop_gradient or not paddle.is_grad_enabled():
            return super().forward(input)
        if self.weight is None:
            return super().forward(input)
        if paddle.in_dynamic_mode():
            weight = self.weight.detach()  # the same memory
            weight.stop_gradient = False
            return F.layer_norm(input, self._normalized_shape, weight, self.bias, self._epsilon)
        output = F.layer_norm(input, self._normalized_shape, epsilon=self._epsilon) * self.weight
        return output if self.bias is None else output + self.bias


def freeze(layer: nn.Layer) -> nn.Layer:
    """Take all parameters out of training, put the layer into evaluation mode, and return it."""
    for parameter in layer.parameters():
        parameter.stop_gradient = True
    for part in layer.sublayers(include_self=True):
        if type(part) is nn.LayerNorm:
            part.__class__ = FrozenLayerNorm
    return layer.eval()
