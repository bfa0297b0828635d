"""The objective equals the formulas written out in NumPy."""

import numpy as np
import paddle
import pytest

from textual_inversion.settings.choices import HUBER_SCHEDULES
from textual_inversion.system.errors import SettingsError
from textual_inversion.training.loss import (
    LOSS_TYPES,
    add_noise,
    debiased_weights,
    diffusion_loss,
    elementwise_loss,
    huber_thresholds,
    min_snr_weights,
    offset_noise,
    perturbed_noise,
    sample_weights,
    timestep_range,
    training_target,
)

TIMESTEPS = np.array([0, 20, 49])


@pytest.fixture
def values():
    g = np.random.default_rng(0)
    latents, noise = (g.standard_normal((3, 4, 2, 2)).astype("float32") for _ in range(2))
    alphas = np.cumprod(1 - np.linspace(0.001, 0.2, 50)).astype("float32")
    return latents, noise, alphas, TIMESTEPS


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
    alphas, t = tensors(*values[2:])
    for call in (
        lambda: training_target("sample", *tensors(*values)),
        lambda: min_snr_weights(alphas, t, "sample", 5.0),
        lambda: debiased_weights(alphas, t, "sample"),
    ):
        with pytest.raises(ValueError, match="'sample' is none of epsilon, v_prediction"):
            call()


def test_loss_is_the_mean_over_all_elements(values):
    latents, noise, _, _ = values

    assert float(diffusion_loss(*tensors(latents, noise))) == pytest.approx(((latents - noise) ** 2).mean(), rel=1e-6)


@pytest.mark.parametrize("change", [offset_noise, perturbed_noise])
def test_offset_and_perturbation_are_added_to_the_noise(values, change):
    _, noise, _, _ = values
    shape = (3, 4, 1, 1) if change is offset_noise else (3, 4, 2, 2)
    more = np.arange(np.prod(shape), dtype="float32").reshape(shape)

    np.testing.assert_allclose(change(*tensors(noise, more), 0.1).numpy(), noise + 0.1 * more, atol=1e-6)
    assert change(noise, more, 0.0) is noise


# --------------------------------------------------------------------------------------------------------- weighting


@pytest.mark.parametrize("gamma", [1.0, 5.0])
def test_min_snr_weights(values, gamma):
    snr = values[2].astype("float64")[TIMESTEPS] / (1 - values[2].astype("float64")[TIMESTEPS])
    assert snr[0] > gamma > snr[2]  # both sides of the minimum

    epsilon, v = (min_snr_weights(*tensors(*values[2:]), kind, gamma) for kind in ("epsilon", "v_prediction"))

    np.testing.assert_allclose(epsilon.numpy(), np.minimum(snr, gamma) / snr, rtol=1e-4)
    np.testing.assert_allclose(v.numpy(), np.minimum(snr, gamma) / (snr + 1), rtol=1e-4)


def test_debiased_weights(values):
    snr = values[2].astype("float64")[TIMESTEPS] / (1 - values[2].astype("float64")[TIMESTEPS])

    epsilon, v = (debiased_weights(*tensors(*values[2:]), kind) for kind in ("epsilon", "v_prediction"))

    np.testing.assert_allclose(epsilon.numpy(), 1 / np.sqrt(snr), rtol=1e-4)
    np.testing.assert_allclose(v.numpy(), np.sqrt(snr) / (snr + 1), rtol=1e-4)


@pytest.mark.parametrize("settings", [{"snr_gamma": 5.0}, {"debiased": True}])
def test_weights_judge_a_guess_of_the_image_alike_as_epsilon_and_as_v(values, settings):
    latents, noise, alphas, t = tensors(*values)
    noisy = add_noise(latents, noise, alphas, t)
    a = paddle.gather(alphas, t).reshape([-1, 1, 1, 1])
    guess = latents + 0.3  # of x: the same guess in both languages
    epsilon = (noisy - a.sqrt() * guess) / (1 - a).sqrt()
    v = (a.sqrt() * noisy - guess) / (1 - a).sqrt()

    losses = [
        float(
            diffusion_loss(
                prediction,
                training_target(kind, latents, noise, alphas, t),
                weights=sample_weights(alphas, t, kind, **settings),
            )
        )
        for kind, prediction in (("epsilon", epsilon), ("v_prediction", v))
    ]

    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_without_weighting_there_are_no_weights(values):
    assert sample_weights(*tensors(*values[2:]), "epsilon") is None


def test_weights_multiply_each_samples_loss(values):
    latents, noise, _, _ = values
    weights = np.array([0.5, 2.0, 0.0], dtype="float32")

    loss = diffusion_loss(*tensors(latents, noise), weights=paddle.to_tensor(weights))

    expected = (((latents - noise) ** 2).mean(axis=(1, 2, 3)) * weights).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------------------------------------- kinds of loss, masks


def test_elementwise_losses():
    d, c = np.array([-3.0, -0.05, 0.0, 0.01, 0.1, 2.0]).reshape(1, 1, 2, 3), 0.1
    root = np.sqrt(d**2 + c**2)
    expected = {"l2": d**2, "huber": 2 * c * (root - c), "smooth_l1": 2 * (root - c)}

    for name in LOSS_TYPES:
        found = elementwise_loss(*tensors(d, np.zeros_like(d)), name, c)
        np.testing.assert_allclose(found.numpy(), expected[name], atol=1e-6, err_msg=name)
    # Near zero Huber's is the square, far from it a straight line.
    assert expected["huber"].flat[3] == pytest.approx(1e-4, rel=0.01)
    assert expected["huber"].flat[0] == pytest.approx(2 * c * (3 - c), rel=0.01)


def test_huber_thresholds(values):
    """Each schedule by its formula, and the sample's own threshold in its loss."""
    latents, noise, alphas, t = values
    snr, c, s = alphas[t].astype("float64") / (1 - alphas[t].astype("float64")), 0.3, 2.5
    expected = {
        "constant": np.full(3, c * s),
        "exponential": s * np.exp(np.log(c) * t / 50),
        "snr": (1 - c) / (1 + 1 / np.sqrt(snr)) ** 2 + c,
    }
    errors = (latents - noise).astype("float64")

    assert tuple(expected) == HUBER_SCHEDULES
    for schedule, own in expected.items():
        found = huber_thresholds(*tensors(alphas, t), schedule, c, s)
        loss = elementwise_loss(*tensors(latents, noise), "huber", found)
        own = own[:, None, None, None]
        np.testing.assert_allclose(np.broadcast_to(found, own.shape), own, rtol=1e-5, err_msg=schedule)
        np.testing.assert_allclose(loss, 2 * own * (np.sqrt(errors**2 + own**2) - own), rtol=1e-4, err_msg=schedule)
    assert expected["exponential"][0] == s  # clean latents
    with pytest.raises(ValueError, match="'linear' is none of constant, exponential, snr"):
        huber_thresholds(*tensors(alphas, t), "linear", c)


def test_the_snr_schedule_is_finite_where_there_is_no_signal():
    found = huber_thresholds(*tensors(np.array([0.9, 0.0], "float32"), np.array([0, 1])), "snr", 0.1)

    assert found[1].item() == pytest.approx(0.1)


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="'l3' is none of l2, huber, smooth_l1"):
        elementwise_loss(*tensors(np.zeros(1), np.zeros(1)), "l3")


def test_a_masked_loss_is_the_mean_over_each_samples_mask(values):
    latents, noise, _, _ = values
    mask = np.array([[[1, 0], [0, 0]], [[1, 1], [0.5, 0.5]], [[0, 0], [0, 0]]], dtype="float32")[:, None]

    loss = float(diffusion_loss(*tensors(latents, noise), mask=paddle.to_tensor(mask)))

    error = ((latents - noise) ** 2).mean(axis=1)  # (3, 2, 2)
    second = (error[1] * mask[1, 0]).sum() / 3
    assert loss == pytest.approx((error[0, 0, 0] + second + 0) / 3, rel=1e-5)


def test_a_mask_of_ones_changes_nothing_and_what_is_outside_has_no_gradient(values):
    latents, noise = tensors(*values[:2])
    latents.stop_gradient = False
    mask = paddle.zeros([3, 1, 2, 2])
    mask[:, :, 0] = 1.0

    assert float(diffusion_loss(latents, noise, mask=paddle.ones([3, 1, 2, 2]))) == pytest.approx(
        float(diffusion_loss(latents, noise)), rel=1e-6
    )
    diffusion_loss(latents, noise, mask=mask).backward()
    assert (latents.grad[:, :, 1] == 0).all() and (latents.grad[:, :, 0] != 0).any()


# ---------------------------------------------------------------------------------------------- timesteps, pure noise


@pytest.fixture
def to_pure_noise():
    """A schedule whose last a_t is 0."""
    return np.append(np.linspace(0.99, 0.01, 49), 0.0).astype("float32")


def test_nothing_becomes_nan_where_a_schedule_ends_in_pure_noise(values, to_pure_noise):
    latents, noise, _, t = values
    arguments = tensors(latents, noise, to_pure_noise, t)

    noisy, v = add_noise(*arguments), training_target("v_prediction", *arguments)

    np.testing.assert_array_equal(noisy[2].numpy(), noise[2])
    np.testing.assert_array_equal(v[2].numpy(), -latents[2])
    for settings in ({"snr_gamma": 5.0}, {"debiased": True}):
        weights = sample_weights(*arguments[2:], "v_prediction", **settings)
        assert paddle.isfinite(weights).all() and float(weights[2]) == 0.0
    assert min_snr_weights(*arguments[2:], "epsilon", 5.0).numpy()[2] == 1.0


def test_epsilon_is_not_trained_on_pure_noise(to_pure_noise):
    alphas = paddle.to_tensor(to_pure_noise)

    assert timestep_range(alphas, "v_prediction", None, None) == (0, 50)
    assert timestep_range(alphas, "epsilon", 3, 49) == (3, 49)
    with pytest.raises(SettingsError, match="zero terminal SNR.*--max_timestep 49"):
        timestep_range(alphas, "epsilon", None, None)


@pytest.mark.parametrize(("low", "high"), [(0, 51), (50, None), (7, 7), (9, 3)])
def test_a_range_without_timesteps_is_refused(values, low, high):
    with pytest.raises(SettingsError, match="--min_timestep"):
        timestep_range(paddle.to_tensor(values[2]), "epsilon", low, high)
