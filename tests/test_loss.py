"""The objective equals the formulas written out in NumPy."""

import numpy as np
import paddle
import pytest

from textual_inversion.loss import add_noise, diffusion_loss, offset_noise, training_target


@pytest.fixture
def values():
    g = np.random.default_rng(0)
    latents, noise = (g.standard_normal((3, 4, 2, 2)).astype("float32") for _ in range(2))
    alphas = np.cumprod(1 - np.linspace(0.001, 0.02, 50)).astype("float32")
    return latents, noise, alphas, np.array([0, 20, 49])


def tensors(*arrays):
    return [paddle.to_tensor(a) for a in arrays]


def test_noisy_latents(values):
    latents, noise, alphas, t = values
    a = alphas[t][:, None, None, None]

    result = add_noise(*tensors(latents, noise, alphas, t))

    np.testing.assert_allclose(result.numpy(), np.sqrt(a) * latents + np.sqrt(1 - a) * noise, atol=1e-6)


def test_targets(values):
    latents, noise, alphas, t = values
    a = alphas[t][:, None, None, None]

    epsilon = training_target("epsilon", *tensors(latents, noise, alphas, t))
    v = training_target("v_prediction", *tensors(latents, noise, alphas, t))

    np.testing.assert_array_equal(epsilon.numpy(), noise)
    np.testing.assert_allclose(v.numpy(), np.sqrt(a) * noise - np.sqrt(1 - a) * latents, atol=1e-6)


def test_an_unknown_prediction_type_is_refused(values):
    with pytest.raises(ValueError, match="'sample' is none of epsilon, v_prediction"):
        training_target("sample", *tensors(*values))


def test_loss_is_the_mean_over_all_elements(values):
    latents, noise, _, _ = values

    assert float(diffusion_loss(*tensors(latents, noise))) == pytest.approx(((latents - noise) ** 2).mean(), rel=1e-6)


def test_offset_noise_shifts_whole_channels(values):
    _, noise, _, _ = values
    per_channel = np.arange(12, dtype="float32").reshape(3, 4, 1, 1)

    shifted = offset_noise(*tensors(noise, per_channel), 0.1).numpy()

    np.testing.assert_allclose(shifted, noise + 0.1 * per_channel, atol=1e-6)
    assert offset_noise(noise, per_channel, 0.0) is noise
