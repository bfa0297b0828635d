"""Variants of images: a function of seed, image and variant; colours within their bounds; nothing else changes."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data.augmentation import UNCHANGED, Augmentation, Change, make_augmentation
from textual_inversion.settings.train_data import ImageSettings

ALL = Augmentation(7, 5, 0.2, 0.3, 0.4, 0.1, 15.0)


def plain(color, size=(8, 8)):
    return Image.new("RGB", size, color)


def test_a_variant_is_a_function_of_seed_image_part_and_variant_and_the_first_is_the_image_itself():
    again = Augmentation(7, 5, 0.2, 0.3, 0.4, 0.1, 15.0)

    assert ALL.changes(3) == again.changes(3) and ALL.changes(3)[0] == UNCHANGED
    other_seed = Augmentation(8, 5, 0.2, 0.3, 0.4, 0.1, 15.0)
    different = {
        ALL.change(3, 2),
        ALL.change(3, 3),
        ALL.change(4, 2),
        ALL.change(3, 2, part=1),
        other_seed.change(3, 2),
    }
    assert len(different) == 5


def test_changes_fill_their_bounds_and_keep_them():
    drawn = [change for image in range(200) for change in ALL.changes(image)[1:]]

    for name, middle, most in (
        ("brightness", 1, 0.2), ("contrast", 1, 0.3), ("saturation", 1, 0.4), ("hue", 0, 0.1), ("angle", 0, 15.0),
    ):  # fmt: skip
        values = np.array([getattr(change, name) for change in drawn]) - middle
        assert np.abs(values).max() <= most and values.max() > 0.95 * most and values.min() < -0.95 * most
        assert abs(values.mean()) < 0.1 * most
    assert all(change.crop is None for change in drawn)


def test_what_is_not_asked_for_does_not_change():
    assert Augmentation(7, 5, rotation=9.0).change(0, 1).brightness == 1.0
    assert Augmentation(7, 5, brightness=0.1).change(0, 1).angle == 0.0
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 6, 3), dtype=np.uint8))
    assert UNCHANGED.colours(image) is image


@pytest.mark.parametrize(
    ("change", "color", "expected"),
    [
        (Change(brightness=0.5), (200, 100, 40), (100, 50, 20)),
        (Change(saturation=0.0), (200, 100, 40), (123, 123, 123)),  # 0.299 r + 0.587 g + 0.114 b
        (Change(contrast=0.0), (200, 100, 40), (123, 123, 123)),
        (Change(hue=1 / 3), (255, 0, 0), (0, 255, 0)),
        (Change(hue=-1 / 3), (255, 0, 0), (0, 0, 255)),  # to a step of 1 in 256 of the colour circle
    ],
)
def test_colours_change_by_value(change, color, expected):
    assert np.abs(np.subtract(change.colours(plain(color)).getpixel((3, 3)), expected)).max() <= 6


def test_hues_turn_and_brightness_and_saturation_stay():
    turned = Change(hue=0.05).colours(plain((180, 90, 60))).getpixel((0, 0))

    before, after = (colorsys.rgb_to_hsv(*(c / 255 for c in color)) for color in ((180, 90, 60), turned))
    np.testing.assert_allclose(np.subtract(after, before), (0.05, 0, 0), atol=0.01)


def test_settings_say_how_many_variants_there_are():
    assert make_augmentation(ImageSettings(), 1) == Augmentation(1)
    assert make_augmentation(ImageSettings(rotation=5.0), 1) == Augmentation(1, 8, rotation=5.0)
    crops = ImageSettings(resize_mode="random_crop", augmented_variants=4)
    assert make_augmentation(crops, 1) == Augmentation(1, 4, crops=True) and not crops.encodes_live
    assert ImageSettings(resize_mode="random_crop").encodes_live
    assert not ImageSettings(resize_mode="random_crop", hue_jitter=0.1).encodes_live
    assert Augmentation(1, 4, crops=True).change(0, 1).crop != Augmentation(1, 4, crops=True).change(0, 2).crop
