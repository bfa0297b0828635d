"""Small versions: exact where there are few, bounded in bytes where there are many."""

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data.previews import Previews, small_version


def photo(width, height, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)


def noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_a_few_images_are_kept_pixel_by_pixel():
    previews, images = Previews(6), [photo(256, 320, seed) for seed in range(6)]
    for image in images:
        previews.add(image)

    assert len(previews.images) == 6
    for kept, image in zip(previews.images, images, strict=True):
        np.testing.assert_array_equal(np.asarray(kept), np.asarray(image))


def test_a_few_large_images_keep_their_size_and_nearly_their_pixels():
    previews, image = Previews(6), photo(512, 512)
    previews.add(image)

    (kept,) = previews.images
    assert kept.size == (512, 512)
    assert np.abs(np.asarray(kept, float) - np.asarray(image, float)).mean() < 1


@pytest.mark.parametrize("count", [100, 1000, 100_000])
@pytest.mark.parametrize("size", [(512, 512), (1024, 1024), (1024, 256)])
@pytest.mark.parametrize("draw", [photo, noise])
def test_many_images_take_a_bounded_number_of_bytes_and_look_alike(count, size, draw):
    previews, image = Previews(count), draw(*size)
    previews.add(image)

    assert len(previews._kept[0]) <= max(8_000, 2_000_000 // count)
    (kept,) = previews.images
    assert kept.mode == "RGB" and abs(kept.width / kept.height - size[0] / size[1]) < 0.1
    if draw is photo:
        enlarged = np.asarray(kept.resize(size, Image.Resampling.BICUBIC), float)
        assert np.abs(enlarged - np.asarray(image, float)).mean() < 4


def test_small_images_stay_exact_however_many_there_are():
    image = noise(48, 48)

    np.testing.assert_array_equal(small_version(image, 8_000), np.asarray(image))
    assert isinstance(small_version(noise(64, 64), 8_000), bytes)
