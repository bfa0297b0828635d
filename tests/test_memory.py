"""Saving memory changes no number."""

import numpy as np
import pytest

from textual_inversion.errors import SettingsError
from textual_inversion.memory import save_memory
from textual_inversion.models import load_base_model
from tiny_models import build_model


@pytest.fixture
def folder(tmp_path):
    return build_model(tmp_path / "base", "sd1", "ppdiffusers")


def count_resnet_calls(model):
    """A list that grows with every forward pass of a residual block."""
    calls = []
    for layer in model.unet.sublayers():
        if type(layer).__name__ == "ResnetBlock2D":
            layer.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def gradient(model):
    import paddle

    g = np.random.default_rng(0)
    latents = paddle.to_tensor(g.standard_normal((2, 4, 8, 8)).astype("float32"))
    states = paddle.to_tensor(g.standard_normal((2, 77, 32)).astype("float32"), stop_gradient=False)
    loss = model.unet(latents, paddle.to_tensor([10, 700]), states).sample.square().mean()
    loss.backward()
    return float(loss), states.grad.numpy()


def test_gradient_checkpointing_gives_the_same_loss_and_gradient(folder):
    plain, saving = load_base_model(folder), load_base_model(folder)
    save_memory(saving, gradient_checkpointing=True, efficient_attention=False)

    calls = [count_resnet_calls(model) for model in (plain, saving)]
    (loss, states), (same_loss, same_states) = gradient(plain), gradient(saving)

    assert len(calls[1]) > len(calls[0])  # what was not kept was computed again
    assert same_loss == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(same_states, states, rtol=1e-4, atol=1e-8)


def test_efficient_attention_without_a_gpu_is_refused_with_the_way_out(folder):
    with pytest.raises(SettingsError, match="leave it out"):
        save_memory(load_base_model(folder), gradient_checkpointing=False, efficient_attention=True)
