"""The VAE sees each image once; sampling from its posterior equals the formula."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from textual_inversion.latents import encode_posteriors


class CountingVae:
    """A VAE whose posterior is known: the mean is the red channel's, the deviation is 0.5."""

    config = SimpleNamespace(scaling_factor=0.5)

    def __init__(self):
        self.seen = []

    def parameters(self):
        return [paddle.zeros([1])]

    def encode(self, pixels):
        self.seen.append(tuple(pixels.shape))
        mean = pixels[:, :2, ::2, ::2]
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=paddle.full_like(mean, 0.5)))


@pytest.fixture
def pixels():
    g = np.random.default_rng(0)
    return [g.uniform(-1, 1, (3, 8, 8)).astype("float32") for _ in range(3)]


@pytest.mark.parametrize(("mirrored", "times"), [(False, 3), (True, 6)])
def test_each_image_is_encoded_once_and_once_mirrored(pixels, mirrored, times):
    vae = CountingVae()

    cache = encode_posteriors(vae, iter(pixels), mirrored=mirrored)

    assert vae.seen == [(1, 3, 8, 8)] * times
    assert cache.shape == (2, 4, 4)


def test_samples_are_scaled_draws_from_the_posterior(pixels):
    cache = encode_posteriors(CountingVae(), pixels, mirrored=True)
    noise = np.random.default_rng(1).standard_normal((2, 2, 4, 4)).astype("float32")

    latents = cache.sample(np.array([2, 1]), np.array([False, True]), noise).numpy()

    means = np.stack([pixels[2][:2, ::2, ::2], pixels[1][:2, ::2, ::-1][:, :, ::2]])
    np.testing.assert_allclose(latents, 0.5 * (means + 0.5 * noise), atol=1e-6)


def test_a_flip_that_was_not_encoded_is_an_error(pixels):
    cache = encode_posteriors(CountingVae(), pixels, mirrored=False)

    with pytest.raises(ValueError, match="mirror"):
        cache.sample(np.array([0]), np.array([True]), np.zeros((1, 2, 4, 4), dtype="float32"))
