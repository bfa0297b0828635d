"""The VAE sees each image once; sampling from its posterior equals the formula."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from textual_inversion.data.latents import LiveLatents, encode_posteriors


class CountingVae:
    """A VAE whose posterior is known: the mean is the red channel's, the deviation is 0.5."""

    config = SimpleNamespace(scaling_factor=0.5, latent_channels=2)

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


def batch_of(images, flips, posterior_noise):
    return SimpleNamespace(images=np.array(images), flips=np.array(flips), posterior_noise=posterior_noise)


@pytest.mark.parametrize(("mirrored", "times"), [(False, 3), (True, 6)])
def test_each_image_is_encoded_once_and_once_mirrored(pixels, mirrored, times):
    vae = CountingVae()

    cache = encode_posteriors(vae, iter(pixels), mirrored=mirrored)

    assert vae.seen == [(1, 3, 8, 8)] * times
    assert cache.shape_of(0) == (2, 4, 4)


def test_samples_are_scaled_draws_from_the_posterior(pixels):
    cache = encode_posteriors(CountingVae(), pixels, mirrored=True)
    noise = np.random.default_rng(1).standard_normal((2, 2, 4, 4)).astype("float32")

    latents = cache.sample(batch_of([2, 1], [False, True], noise)).numpy()

    means = np.stack([pixels[2][:2, ::2, ::2], pixels[1][:2, ::2, ::-1][:, :, ::2]])
    np.testing.assert_allclose(latents, 0.5 * (means + 0.5 * noise), atol=1e-6)


def test_a_flip_that_was_not_encoded_is_an_error(pixels):
    cache = encode_posteriors(CountingVae(), pixels, mirrored=False)

    with pytest.raises(ValueError, match="mirror"):
        cache.sample(batch_of([0], [True], np.zeros((1, 2, 4, 4), dtype="float32")))


def test_images_of_unlike_shape_are_kept_apart():
    g = np.random.default_rng(0)
    pixels = [g.uniform(-1, 1, (3, *size)).astype("float32") for size in ((8, 8), (4, 8), (8, 8), (4, 8))]
    cache = encode_posteriors(CountingVae(), pixels, mirrored=True)
    noise = np.zeros((3, 2, 2, 4), dtype="float32")

    latents = cache.sample(batch_of([3, 1, 3], [False, True, True], noise)).numpy()

    views = [pixels[3], pixels[1][:, :, ::-1], pixels[3][:, :, ::-1]]
    np.testing.assert_allclose(latents, 0.5 * np.stack([view[:2, ::2, ::2] for view in views]), atol=1e-6)
    assert [cache.shape_of(i) for i in range(4)] == [(2, 4, 4), (2, 2, 4), (2, 4, 4), (2, 2, 4)]


def test_live_latents_are_scaled_draws_from_the_crops_posteriors(pixels):
    vae = CountingVae()
    model = SimpleNamespace(vae=vae, vae_scale_factor=2)
    live = LiveLatents(model, [np.concatenate([p, 2 * p], axis=2) for p in pixels], (8, 8))
    noise = np.random.default_rng(1).standard_normal((3, 2, 4, 4)).astype("float32")
    batch = batch_of([2, 0, 1], [False, True, False], noise)
    batch.crops = np.array([[0.0, 0.0], [0.9, 0.999], [0.3, 0.5]])

    latents = live.sample(batch).numpy()

    middle = np.concatenate([pixels[1], 2 * pixels[1]], axis=2)[:, :, 4:12]
    views = [pixels[2], 2 * pixels[0][:, :, ::-1], middle]
    means = np.stack([view[:2, ::2, ::2] for view in views])
    np.testing.assert_allclose(latents, 0.5 * (means + 0.5 * noise), atol=1e-6)
    assert live.shape_of(1) == (2, 4, 4)
    assert vae.seen == [(3, 3, 8, 8)]  # one pass for the whole batch
