"""Attention in blocks: the same numbers and gradients as in one piece, with less kept."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from ppdiffusers.models.attention_processor import Attention, AttnProcessor

from helpers.tiny_models import FAMILIES, build_model
from textual_inversion.models.base_model import load_base_model
from textual_inversion.models.layers import attention
from textual_inversion.models.layers.attention import BlockwiseAttnProcessor, attend, work_in_blocks
from textual_inversion.models.memory import save_memory


def tensors(*shapes, dtype="float32", needed=True):
    g = np.random.default_rng(0)
    return [paddle.to_tensor(g.standard_normal(shape).astype(dtype), stop_gradient=not needed) for shape in shapes]


def in_one_piece(query, key, value):
    return paddle.matmul(F.softmax(paddle.matmul(query, key, transpose_y=True)), value)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks in everything, of rows that divide nothing."""
    monkeypatch.setattr(attention, "_SMALL", 0)
    monkeypatch.setattr(attention, "ROWS", 7)


@pytest.mark.parametrize("keep", [0, 2**30])
@pytest.mark.parametrize("shape", [(2, 20, 20, 4), (3, 7, 77, 8), (1, 1, 5, 6)])
def test_result_and_gradients_are_those_of_one_piece(small_blocks, shape, keep):
    heads, rows, columns, width = shape
    sizes = ((heads, rows, width), (heads, columns, width), (heads, columns, width))
    (upstream,) = tensors((heads, rows, width), needed=False)
    found = []
    for how in (in_one_piece, lambda *qkv: attend(*qkv, keep=keep)):
        inputs = tensors(*sizes)
        result = how(*inputs)
        (result * upstream).sum().backward()
        found.append([result.numpy(), *(one.grad.numpy() for one in inputs)])

    for expected, got in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keep", [0, 2**30])
def test_gradients_are_difference_quotients(small_blocks, keep):
    inputs = tensors((1, 9, 3), (1, 8, 3), (1, 8, 3), dtype="float64")
    (upstream,) = tensors((1, 9, 3), dtype="float64", needed=False)

    def value(*qkv):
        return (attend(*qkv, keep=keep) * upstream).sum()

    value(*inputs).backward()

    for place, one in enumerate(inputs):
        step = paddle.zeros_like(one)
        step[0, 2, 1] = 1e-6
        with paddle.no_grad():
            up, down = ([*inputs[:place], one + sign * step, *inputs[place + 1 :]] for sign in (1, -1))
            quotient = float(value(*up) - value(*down)) / 2e-6
        assert float(one.grad[0, 2, 1]) == pytest.approx(quotient, rel=1e-6)


def test_what_needs_no_gradient_gets_none_and_what_does_gets_it(small_blocks):
    query, (key, value) = tensors((2, 20, 4), needed=False)[0], tensors((2, 9, 4), (2, 9, 4))
    attend(query, key, value).sum().backward()
    assert query.grad is None and key.grad is not None and value.grad is not None


def test_above_the_limit_no_weights_are_kept(monkeypatch):
    counts = []
    usual = attention._forward
    monkeypatch.setattr(attention, "_forward", lambda q, k, v, kept: counts.append(kept) or usual(q, k, v, kept))
    for keep in (4 * 2 * 300 * 20, 4 * 2 * 300 * 20 - 1):
        attend(*tensors((2, 300, 4), (2, 20, 4), (2, 20, 4)), keep=keep)
    attend(*tensors((2, 300, 4), (2, 20, 4), (2, 20, 4), needed=False))
    assert [None if kept is None else len(kept) for kept in counts] == [2 * 3, None, None]  # blocks of 128 rows


def gradient(unet):
    latents, states = tensors((2, 4, 8, 8), (2, 77, 32), needed=False)
    states.stop_gradient = False
    prediction = unet(latents, paddle.to_tensor([10, 700]), states).sample
    prediction.square().mean().backward()
    return prediction.numpy(), states.grad.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 2**30])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_unet_gives_the_same_with_blocks(tmp_path, small_blocks, monkeypatch, keep, checkpointing):
    model = load_base_model(build_model(tmp_path / "base", "sd1"))
    plain = [layer for layer in model.unet.sublayers() if isinstance(layer, Attention)]
    for layer in plain:
        layer.set_processor(AttnProcessor())
    expected = gradient(model.unet)
    save_memory(model, gradient_checkpointing=checkpointing, efficient_attention=False)
    blocks = []
    usual = attention.attend
    monkeypatch.setattr(attention, "attend", lambda *qkv, **o: blocks.append(o["keep"]) or usual(*qkv, **o))
    work_in_blocks(model.unet, keep)

    got = gradient(model.unet)

    assert len(blocks) >= len(plain) and set(blocks) == {keep}
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_familys_unet_and_vae_work_in_blocks_where_it_pays(tmp_path, family, small_blocks):
    model = load_base_model(build_model(tmp_path / "base", family))
    for part in (model.unet, model.vae):
        attentions = [layer for layer in part.sublayers() if isinstance(layer, Attention)]
        assert attentions and all(type(layer.processor) is BlockwiseAttnProcessor for layer in attentions)
    pixels = tensors((1, 3, 16, 16), needed=False)[0]
    found = model.vae.encode(pixels).latent_dist.mean.numpy()
    for layer in attentions:
        layer.set_processor(AttnProcessor())
    np.testing.assert_allclose(model.vae.encode(pixels).latent_dist.mean.numpy(), found, atol=1e-5)


@pytest.mark.parametrize("reason", ["small", "mask", "type"])
def test_the_rest_goes_the_usual_way(monkeypatch, reason):
    layer = Attention(query_dim=8, heads=2, dim_head=4)
    work_in_blocks(layer)
    if reason != "small":
        monkeypatch.setattr(attention, "_SMALL", 0)
    monkeypatch.setattr(attention, "attend", None)  # whoever calls it fails
    (states,) = tensors((1, 6, 8), needed=False)
    mask = None
    if reason == "mask":
        mask = paddle.zeros([1, 1, 6])
    if reason == "type":
        layer, states = layer.to(dtype="float64"), states.astype("float64")

    assert layer(states, attention_mask=mask).shape == [1, 6, 8]


def test_other_processors_stay():
    layer = Attention(query_dim=8, heads=2, dim_head=4)
    layer.set_attention_slice(1)
    own = layer.processor
    work_in_blocks(layer)
    assert layer.processor is own
