"""Convolutions in blocks of rows: the same pictures, in less at a time."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from paddle import nn
from ppdiffusers.models.lora import LoRACompatibleConv

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.layers import convolution
from textual_inversion.models.layers.convolution import BlockwiseConv2D, BlockwiseLoRAConv, convolve_in_blocks
from textual_inversion.models.unet_forward import make_predictor


@pytest.fixture
def calls(monkeypatch):
    """Blocks of few rows in everything; the heights of what is convolved, call by call."""
    heights, plain = [], F.conv2d

    def watched(x, *args, **options):
        heights.append(x.shape[2])
        return plain(x, *args, **options)

    monkeypatch.setattr(convolution, "MATRIX", 5000)
    monkeypatch.setattr(convolution.F, "conv2d", watched)
    return heights


def blockwise(cls, *args, **options):
    """A frozen layer twice: as it is, and in blocks."""
    plain, other = cls(*args, **options), cls(*args, **options)
    other.set_state_dict(plain.state_dict())
    for layer in (plain, other):
        for parameter in layer.parameters():
            parameter.stop_gradient = True
    convolve_in_blocks(other)
    return plain, other


@pytest.mark.parametrize("cls", [nn.Conv2D, LoRACompatibleConv])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {"padding": 0, "stride": 2},
        {"padding": (0, 1)},
        {"padding": 2, "kernel": 5, "stride": 3},
        {"padding": 1, "kernel": (3, 1)},
        {"padding": 1, "bias_attr": False},
    ],
)
@pytest.mark.parametrize("size", [(16, 16), (23, 9), (7, 40)])
def test_the_result_is_that_of_one_piece(calls, cls, options, size):
    options = dict(options)
    plain, other = blockwise(cls, 6, 8, options.pop("kernel", 3), **options)
    pixels = paddle.randn([2, 6, *size])

    expected = plain(pixels)
    calls.clear()
    found = other(pixels)

    assert type(other) in (BlockwiseConv2D, BlockwiseLoRAConv) and isinstance(other, cls)
    assert len(calls) > 1 and max(calls) < size[0]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_a_block_is_no_larger_than_the_limit_and_blocks_are_alike(calls):
    _, other = blockwise(nn.Conv2D, 6, 8, 3, padding=1)

    other(paddle.randn([1, 6, 23, 9]))

    rows = [height - 2 for height in calls[1:-1]]  # the outer ones have their margin from the padding
    assert set(rows) == {2} and 4 * 6 * 9 * 9 * 2 <= convolution.MATRIX < 4 * 6 * 9 * 9 * 3
    assert len(calls) == 12


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [
        ({"padding": "same"}, {}),
        ({"padding": 1, "dilation": 2}, {}),
        ({"padding": 1, "groups": 2}, {}),
        ({"padding": 1, "padding_mode": "reflect"}, {}),
        ({"kernel": 1}, {}),
        ({"padding": 1}, {"dtype": "float64"}),
        ({"padding": 1}, {"needed": True}),
        ({"padding": 1}, {"side": 4}),
    ],
)
def test_the_rest_goes_the_usual_way(calls, layer, pixels):
    dtype = pixels.get("dtype", "float32")
    plain, other = blockwise(nn.Conv2D, 6, 8, layer.pop("kernel", 3), **layer)
    side = pixels.get("side", 16)
    entered = paddle.randn([1, 6, side, side]).astype(dtype)
    entered.stop_gradient = not pixels.get("needed", False)
    if dtype != "float32":
        plain, other = plain.to(dtype=dtype), other.to(dtype=dtype)

    np.testing.assert_array_equal(other(entered).numpy(), plain(entered).numpy())
    assert set(calls) <= {side, side + 2}  # whole pictures, padded or not


@pytest.mark.parametrize("of_pixels", [True, False])
def test_gradients_still_pass(calls, of_pixels):
    plain, other = blockwise(nn.Conv2D, 6, 8, 3, padding=1)
    found = []
    for layer in (plain, other):
        pixels = paddle.ones([1, 6, 16, 16])
        pixels.stop_gradient, layer.weight.stop_gradient = not of_pixels, of_pixels
        layer(pixels).square().sum().backward()
        found.append((pixels if of_pixels else layer.weight).grad.numpy())

    np.testing.assert_array_equal(*found)
    assert not calls  # no blocks


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_familys_unet_and_vae_give_the_same(tmp_path, family, calls):
    build_model(tmp_path, family)
    model = load_base_model(tmp_path)
    kinds = {type(part) for layer in (model.unet, model.vae) for part in layer.sublayers()}
    predict = make_predictor(model, compiled=False)
    paddle.seed(0)  # whatever other tests of this process have drawn
    pixels, latents = paddle.randn([1, 3, 64, 64]), paddle.randn([1, model.unet.config.in_channels, 16, 16])

    def by_vae():
        return model.vae.decode(model.vae.encode(pixels).latent_dist.mean).sample

    def by_unet():
        return predict(latents, paddle.to_tensor([500]), model.encode_prompts(["a toy"]))

    assert not kinds & {nn.Conv2D, LoRACompatibleConv}
    for result in (by_vae, by_unet):
        found, numbers = [], []
        for limit in (5000, 10**12):
            convolution.MATRIX = limit
            calls.clear()
            with paddle.no_grad():
                found.append(result().numpy())
            numbers.append(len(calls))
        assert numbers[0] > 2 * numbers[1] > 0
        np.testing.assert_allclose(*found, atol=1e-5)
