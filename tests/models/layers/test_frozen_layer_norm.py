"""Frozen modules: nothing in them is trained, and the gradient that passes through them is right."""

import numpy as np
import paddle
import pytest
from paddle import nn

from textual_inversion.models.layers.frozen_layer_norm import freeze


def gradient(x, layer, upstream):
    """Of sum(upstream * layer(x)) on x."""
    x = paddle.to_tensor(x, stop_gradient=False)
    (layer(x) * paddle.to_tensor(upstream)).sum().backward()
    return x.grad.numpy()


def layer_norm_gradient(x, weight, upstream, epsilon=1e-5):
    """Written out: arXiv 1607.06450, differentiated."""
    deviation = np.sqrt(x.var(-1, keepdims=True) + epsilon)
    normal, g = (x - x.mean(-1, keepdims=True)) / deviation, upstream * weight
    return (g - g.mean(-1, keepdims=True) - normal * (g * normal).mean(-1, keepdims=True)) / deviation


@pytest.mark.parametrize("has_affine", [True, False])
def test_the_gradient_through_a_frozen_layer_norm_is_the_formulas(has_affine):
    g = np.random.default_rng(0)
    x, upstream, weight, bias = (
        g.standard_normal(shape).astype("float32") for shape in ((3, 5, 16), (3, 5, 16), 16, 16)
    )
    layer = nn.Sequential(
        nn.LayerNorm(16, weight_attr=None if has_affine else False, bias_attr=None if has_affine else False)
    )
    if has_affine:
        layer[0].weight.set_value(weight)
        layer[0].bias.set_value(bias)
    plain = layer(paddle.to_tensor(x)).numpy()

    freeze(layer)

    expected = layer_norm_gradient(x, weight if has_affine else 1.0, upstream)
    np.testing.assert_allclose(gradient(x, layer, upstream), expected, atol=1e-5)
    np.testing.assert_array_equal(layer(paddle.to_tensor(x)).numpy(), plain)
    trained = layer(paddle.to_tensor(x, stop_gradient=False)).numpy()
    np.testing.assert_allclose(trained, plain, atol=1e-6)
    assert not layer.training and all(p.stop_gradient and p.grad is None for p in layer.parameters())


def test_paddle_still_needs_it():
    """Where this fails Paddle has mended its layer norm, and `FrozenLayerNorm` can go."""
    g = np.random.default_rng(0)
    x, upstream, weight = (g.standard_normal(shape).astype("float32") for shape in ((3, 16), (3, 16), 16))
    layer = nn.LayerNorm(16)
    layer.weight.set_value(weight)
    layer.weight.stop_gradient = True

    if paddle.device.get_device() == "cpu":
        assert np.abs(gradient(x, layer, upstream) - layer_norm_gradient(x, weight, upstream)).max() > 0.1
