"""The VAE sees each image once; sampling from its posterior equals the formula."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from helpers.tiny_models import build_model
from textual_inversion.data.latents import LiveLatents, encode_posteriors
from textual_inversion.models.base_model import load_base_model


class CountingVae:
    """A VAE whose posterior is known: the mean is the red channel's, the deviation is 0.5."""

    config = SimpleNamespace(scaling_factor=0.5, latent_channels=2)

    def __init__(self):
        self.seen = []

    def named_parameters(self):
        yield "weight", paddle.zeros([1])

    def encode(self, pixels):
        self.seen.append(tuple(pixels.shape))
        mean = pixels[:, :2, ::2, ::2]
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean, std=paddle.full_like(mean, 0.5)))


@pytest.fixture
def pixels():
    g = np.random.default_rng(0)
    return [g.uniform(-1, 1, (3, 8, 8)).astype("float32") for _ in range(3)]


def shapes_of(pixels):
    return [array.shape[1:] for array in pixels]


def batch_of(images, flips, posterior_noise):
    variants = np.zeros(len(images), np.int64)
    return SimpleNamespace(
        images=np.array(images), flips=np.array(flips), posterior_noise=posterior_noise, drawn_variants=variants
    )


@pytest.mark.parametrize(("mirrored", "times"), [(False, 3), (True, 6)])
def test_each_image_is_encoded_once_and_once_mirrored(pixels, mirrored, times):
    vae = CountingVae()

    cache = encode_posteriors(vae, iter(pixels), shapes_of(pixels), mirrored=mirrored)

    assert vae.seen == [(1, 3, 8, 8)] * times
    assert cache.shape_of(0) == (2, 4, 4)


def test_samples_are_scaled_draws_from_the_posterior(pixels):
    cache = encode_posteriors(CountingVae(), pixels, shapes_of(pixels), mirrored=True)
    noise = np.random.default_rng(1).standard_normal((2, 2, 4, 4)).astype("float32")

    latents = cache.sample(batch_of([2, 1], [False, True], noise)).numpy()

    means = np.stack([pixels[2][:2, ::2, ::2], pixels[1][:2, ::2, ::-1][:, :, ::2]])
    np.testing.assert_allclose(latents, 0.5 * (means + 0.5 * noise), atol=1e-6)


def test_a_flip_that_was_not_encoded_is_an_error(pixels):
    cache = encode_posteriors(CountingVae(), pixels, shapes_of(pixels), mirrored=False)

    with pytest.raises(ValueError, match="mirror"):
        cache.sample(batch_of([0], [True], np.zeros((1, 2, 4, 4), dtype="float32")))


def test_images_of_unlike_shape_are_kept_apart():
    g = np.random.default_rng(0)
    pixels = [g.uniform(-1, 1, (3, *size)).astype("float32") for size in ((8, 8), (4, 8), (8, 8), (4, 8))]
    cache = encode_posteriors(CountingVae(), pixels, shapes_of(pixels), mirrored=True)
    noise = np.zeros((3, 2, 2, 4), dtype="float32")

    latents = cache.sample(batch_of([3, 1, 3], [False, True, True], noise)).numpy()

    views = [pixels[3], pixels[1][:, :, ::-1], pixels[3][:, :, ::-1]]
    np.testing.assert_allclose(latents, 0.5 * np.stack([view[:2, ::2, ::2] for view in views]), atol=1e-6)
    assert [cache.shape_of(i) for i in range(4)] == [(2, 4, 4), (2, 2, 4), (2, 4, 4), (2, 2, 4)]


def test_live_latents_are_scaled_draws_from_the_crops_posteriors():
    vae = CountingVae()
    model = SimpleNamespace(vae=vae, vae_scale_factor=2)
    sources = [np.random.default_rng(number).integers(0, 256, (3, 8, 16), dtype=np.uint8) for number in range(3)]
    live = LiveLatents(model, sources, (8, 8))
    noise = np.random.default_rng(1).standard_normal((3, 2, 4, 4)).astype("float32")
    batch = batch_of([2, 0, 1], [False, True, False], noise)
    batch.crops = np.array([[0.0, 0.0], [0.9, 0.999], [0.3, 0.5]])

    latents = live.sample(batch).numpy()

    views = [sources[2][:, :, :8], sources[0][:, :, :7:-1], sources[1][:, :, 4:12]]
    views = [view / np.float32(127.5) - 1 for view in views]
    means = np.stack([view[:2, ::2, ::2] for view in views])
    np.testing.assert_allclose(latents, 0.5 * (means + 0.5 * noise), atol=1e-6)
    assert live.shape_of(1) == (2, 4, 4)
    assert vae.seen == [(3, 3, 8, 8)]  # one pass for the whole batch


# ------------------------------------------------------------------------------------------------ batches and files


def test_images_of_a_shape_go_through_the_vae_in_batches_of_one_size(pixels):
    vae = CountingVae()
    wide = [np.concatenate([array, array], axis=2) for array in pixels]
    mixed = [pixels[0], wide[0], pixels[1], pixels[2]]

    cache = encode_posteriors(vae, iter(mixed), shapes_of(mixed), mirrored=True, batch_size=4)

    # Of 6 views the last 2 are filled up; 2 views of the other shape need no more than 2.
    assert sorted(vae.seen) == [(2, 3, 8, 16), (4, 3, 8, 8), (4, 3, 8, 8)]
    one_by_one = encode_posteriors(CountingVae(), mixed, shapes_of(mixed), mirrored=True)
    for image, flip in ((0, 0), (1, 1), (2, 1), (3, 0), (3, 1)):
        batch = batch_of([image], [bool(flip)], np.ones((1, *cache.shape_of(image)), dtype="float32"))
        np.testing.assert_array_equal(cache.sample(batch).numpy(), one_by_one.sample(batch).numpy())


def test_what_a_posterior_is_does_not_depend_on_the_other_images(tmp_path):
    """Real arithmetic, bit by bit: of one batch size, whatever else is in the batch."""
    vae = load_base_model(build_model(tmp_path / "base")).vae
    g = np.random.default_rng(0)
    pixels = [g.uniform(-1, 1, (3, 16, 16)).astype("float32") for _ in range(7)]
    noise = np.zeros((1, 4, 8, 8), dtype="float32")

    whole = encode_posteriors(vae, pixels, shapes_of(pixels), mirrored=False, batch_size=3)
    for number in range(5):
        some = [pixels[6], pixels[number], pixels[(number + 1) % 5]]
        part = encode_posteriors(vae, some, shapes_of(some), mirrored=False, batch_size=3)
        np.testing.assert_array_equal(
            part.sample(batch_of([1], [False], noise)).numpy(), whole.sample(batch_of([number], [False], noise)).numpy()
        )


def test_memory_of_the_cache_is_mean_and_std_and_nothing_else(pixels):
    cache = encode_posteriors(CountingVae(), pixels, shapes_of(pixels), mirrored=True)

    held = sum(array.nbytes for pair in cache._stacked.values() for array in pair)
    assert held == 3 * 2 * 2 * 4 * (2 * 4 * 4)  # images, views, mean and std, float32, latents


class KnownFiles:
    """A `LatentFiles` in memory."""

    def __init__(self):
        self.kept, self.told = {}, []

    def key(self, pixels, batch_size):
        return f"{batch_size} {pixels.tobytes().hex()}"

    def read(self, key, size):
        return self.kept.get(key)

    def write(self, key, mean, std):
        self.kept[key] = mean, std

    def tell(self, total):
        self.told.append(total)


def test_only_what_is_not_on_disk_is_encoded(pixels):
    files, first, second, third = KnownFiles(), CountingVae(), CountingVae(), CountingVae()
    noise = np.ones((1, 2, 4, 4), dtype="float32")

    caches = [
        encode_posteriors(first, pixels[:2], shapes_of(pixels[:2]), mirrored=True, batch_size=2, files=files),
        encode_posteriors(second, pixels, shapes_of(pixels), mirrored=True, batch_size=2, files=files),
        encode_posteriors(third, pixels[::-1], shapes_of(pixels), mirrored=False, batch_size=2, files=files),
    ]

    assert [len(vae.seen) for vae in (first, second, third)] == [2, 1, 0] and files.told == [4, 6, 3]
    for cache, image in zip(caches, (1, 1, 1), strict=True):
        drawn = cache.sample(batch_of([image], [False], noise)).numpy()
        np.testing.assert_array_equal(drawn[0], 0.5 * (pixels[1][:2, ::2, ::2] + np.float32(0.5)))


def test_variants_are_kept_beside_each_other_and_each_sample_gets_its_own(pixels):
    views = [array + number / 100 for array in pixels for number in range(3)]  # three variants of each image
    cache = encode_posteriors(CountingVae(), iter(views), shapes_of(pixels), mirrored=True, variants=3)
    noise = np.zeros((3, 2, 4, 4), np.float32)
    batch = batch_of([2, 0, 1], [False, True, False], noise)
    batch.drawn_variants = np.array([0, 2, 1])

    latents = cache.sample(batch).numpy()

    shown = [views[6], views[2][:, :, ::-1], views[4]]
    np.testing.assert_allclose(latents, 0.5 * np.stack([view[:2, ::2, ::2] for view in shown]), atol=1e-6)
    assert cache.memory == 3 * 3 * 2 * 2 * (2 * 4 * 4) * 4  # images, variants, mirrored, mean and std, of 4 bytes
