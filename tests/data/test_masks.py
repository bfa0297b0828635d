"""Masks are found, checked, and follow their images through framing, crops and flips."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data import masks
from textual_inversion.data.augmentation import Augmentation, Change
from textual_inversion.data.cropping import focus_of
from textual_inversion.data.masks import Masks, check_alpha, find_masks, masks_for
from textual_inversion.data.resizing import Frame, Resizer
from textual_inversion.system.errors import ImageError


def write(folder, *names, mode="L", size=(40, 20), color=255):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.new(mode, size, color).save(folder / name)
    return [folder / name for name in names]


def silent(_):
    pass


def read(paths, sizes, note=silent):
    """The masks in files that all lie in one folder, for images of these sizes and of the masks' names."""
    images = [(path.with_suffix(".jpeg"), size) for path, size in zip(paths, sizes, strict=True)]
    return masks_for(images, str(paths[0].parent), note=note)


def alpha(paths, sizes, note=silent):
    """The images' own transparency."""
    return masks_for(list(zip(paths, sizes, strict=True)), None, source="alpha", note=note)


# ------------------------------------------------------------------------------------------------- found and checked


def test_masks_have_their_images_names_whatever_the_ending(tmp_path):
    paths = write(tmp_path / "pictures", "2.jpg", "10.png")
    write(tmp_path / "masks", "10.bmp", "2.png", "3.png")
    notes = []

    found = find_masks(tmp_path / "masks", paths, notes.append)

    assert [path.name for path in found] == ["2.png", "10.bmp"]
    assert len(notes) == 1 and notes[0].endswith("no image for 3")


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["1.png"], "no mask for .*2.png; add 2.png"), (["1.png", "2.png", "2.bmp"], "2.bmp and 2.png")],
)
def test_a_missing_and_a_double_mask_are_named(tmp_path, names, reason):
    paths = write(tmp_path / "pictures", "1.png", "2.png")
    write(tmp_path / "masks", *names)

    with pytest.raises(ImageError, match=reason):
        find_masks(tmp_path / "masks", paths, silent)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere"):
        find_masks(tmp_path / "nowhere", [tmp_path / "1.png"], silent)


def test_a_smaller_mask_of_the_same_shape_is_enlarged(tmp_path):
    paths = write(tmp_path, "1.png", size=(21, 10))

    mask = read(paths, [(400, 192)])[0].load()

    assert (mask.size, mask.mode, mask.getextrema()) == ((400, 192), "L", (255, 255))


def test_what_is_transparent_in_a_mask_does_not_count_and_a_white_one_is_said(tmp_path):
    cutout = Image.new("RGBA", (40, 20), (255, 255, 255, 0))
    cutout.paste((255, 255, 255, 255), (0, 0, 10, 20))
    cutout.save(tmp_path / "1.png")
    paths, notes = [tmp_path / "1.png", *write(tmp_path, "2.png")], []

    first, second = (mask.load() for mask in read(paths, [(40, 20)] * 2, notes.append))

    assert np.array_equal(np.asarray(first)[:, :10], np.full((20, 10), 255)) and not np.asarray(first)[:, 10:].any()
    assert second.getextrema() == (255, 255)
    assert notes == [f"{paths[1]}: is white everywhere, so the whole image is learned"]


@pytest.mark.parametrize("source", ["folder", "alpha"])
def test_a_mask_of_which_framing_leaves_nothing_is_named(tmp_path, source):
    image = Image.new("RGBA", (160, 64), (9, 9, 9, 0))
    image.paste((255, 255, 255, 255), (0, 0, 20, 64))  # cut off by a centred square
    image.save(tmp_path / "1.png")
    paths = [tmp_path / "1.png"]
    files = alpha([paths[0]], [(160, 64)]) if source == "alpha" else read(paths, [image.size])
    made = [mask.load() for mask in files]
    crop = Resizer("center_crop", 64, 64, "bicubic", 8)

    with pytest.raises(ImageError, match="1.png: is black in all that is left after cropping"):
        Masks(made, crop, [(64, 64)], [0], 8)
    assert Masks(made, crop, [(64, 64)], [0], 8, 0.5)
    assert Masks(made, Resizer("squash", 64, 64, "bicubic", 8), [(64, 64)], [0], 8)


@pytest.mark.parametrize(
    ("size", "color", "reason"), [((20, 40), 255, "20x40.*40x20"), ((40, 20), 0, "black everywhere")]
)
def test_a_mask_of_another_shape_and_a_black_one_are_refused(tmp_path, size, color, reason):
    paths = write(tmp_path, "1.png", size=size, color=color)

    with pytest.raises(ImageError, match=f"1.png: is {reason}"):
        read(paths, [(40, 20)])


def half_transparent(path):
    image = Image.new("RGBA", (40, 20), (255, 0, 0, 255))
    image.paste((0, 0, 255, 0), (20, 0, 40, 20))
    image.save(path)
    return path


def test_transparency_is_a_mask_and_an_opaque_image_counts_whole(tmp_path):
    paths = [half_transparent(tmp_path / "1.png"), *write(tmp_path, "2.jpg")]
    notes = []

    masks = [mask.load() for mask in alpha(paths, [(40, 20)] * 2, notes.append)]

    assert [mask.getpixel((5, 5)) for mask in masks] == [255, 255]
    assert [mask.getpixel((35, 5)) for mask in masks] == [0, 255]
    assert len(notes) == 1 and "2.jpg" in notes[0]


def test_images_of_which_none_is_transparent_are_refused(tmp_path):
    one, other = alpha([half_transparent(tmp_path / "1.png"), *write(tmp_path, "2.jpg")], [(40, 20)] * 2)

    check_alpha([one, other])
    with pytest.raises(ImageError, match="--mask_from alpha has no effect"):
        check_alpha([other, other])


def test_masks_come_from_where_they_are_asked_for(tmp_path):
    paths = [half_transparent(tmp_path / "1.png")]
    write(tmp_path / "masks", "1.png", color=128)
    images, folder = [(paths[0], (40, 20))], str(tmp_path / "masks")

    assert masks_for(images, None, note=silent) == []
    assert masks_for(images, None, source="alpha", note=silent)[0].load().getpixel((35, 5)) == 0
    assert masks_for(images, folder, note=silent)[0].load().getpixel((35, 5)) == 128


# ----------------------------------------------------------------------------------------- through framing to latents


def batch(images, flips, crops=None, bucket=0):
    crops = np.full((len(images), 2), 0.5) if crops is None else np.array(crops)
    zeros = np.zeros(len(images), np.int64)
    return SimpleNamespace(
        images=np.array(images), flips=np.array(flips), crops=crops, bucket=bucket, drawn_variants=zeros
    )


def left_white(width, height, white):
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, white, height))
    return mask


def test_weights_are_averages_over_each_latents_pixels_and_follow_flips():
    resizer = Resizer("squash", 8, 8, "nearest")
    masks = Masks([left_white(8, 8, 3), left_white(8, 8, 8)], resizer, [(8, 8)], [0, 0], factor=2)

    weights = masks.weights(batch([0, 0, 1], [False, True, True]))

    assert weights.shape == (3, 1, 4, 4) and weights.dtype == np.float32
    np.testing.assert_array_equal(weights[0, 0], [[1, 0.5, 0, 0]] * 4)
    np.testing.assert_array_equal(weights[1, 0], [[0, 0, 0.5, 1]] * 4)
    np.testing.assert_array_equal(weights[2, 0], np.ones((4, 4)))


def test_the_background_has_the_weight_that_is_asked_for():
    masks = Masks([left_white(8, 8, 3)], Resizer("squash", 8, 8, "nearest"), [(8, 8)], [0], 2, unmasked_weight=0.2)

    np.testing.assert_allclose(masks.weights(batch([0], [False]))[0, 0, 0], [1, 0.6, 0.2, 0.2], atol=1e-6)


def test_weights_follow_random_crops_as_images_do():
    resizer = Resizer("random_crop", 8, 8, "nearest")
    masks = Masks([left_white(16, 8, 6)], resizer, [(8, 8)], [0], factor=2)

    weights = masks.weights(batch([0] * 3, [False, False, True], [(0, 0), (0, 0.5), (0, 0.3)]))

    np.testing.assert_array_equal(weights[:, 0, 0], [[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]])


def test_a_mask_of_another_shape_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    image, folder = write(tmp_path / "images", "a.png", size=(40, 20)), tmp_path / "masks"
    write(folder, "a.png", size=(30, 30))
    monkeypatch.setattr(masks, "load_mask", lambda path: pytest.fail("it was decoded"))

    with pytest.raises(ImageError, match="is 30x30 pixels, but its image 40x20"):
        masks_for([(image[0], (40, 20))], folder=folder, note=silent)


def test_weights_have_their_buckets_shape():
    resizer, shapes = Resizer("bucket", 16, 16, "nearest"), [(8, 24), (16, 16)]
    masks = Masks([left_white(48, 16, 24), left_white(16, 16, 8)], resizer, shapes, [0, 1], factor=4)

    wide, square = masks.weights(batch([0], [False], bucket=0)), masks.weights(batch([1], [True], bucket=1))

    np.testing.assert_array_equal(wide[0, 0], [[1, 1, 1, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(square[0, 0], [[0, 0, 1, 1]] * 4)


def test_masks_turn_with_their_images_and_lose_nothing_at_the_corners():
    white = Image.new("RGB", (64, 48), "white")
    image = Image.new("RGB", (64, 48), "white")
    image.paste((0, 0, 0), (0, 0, 20, 48))
    mask = Image.fromarray(np.asarray(image)[:, :, 0])
    for mode in ("squash", "center_crop", "focal_crop", "bucket", "tiles"):
        resizer = Resizer(mode, 32, 32, "bilinear")
        frame = resizer.frames(image.size, (32, 32), focus_of(image))[0]
        for angle in (3.0, -20.0, 45.0, 90.0, 170.0):
            change = Change(angle=angle)
            assert np.asarray(resizer.cut(white, frame, change)).min() == 255, (mode, angle)
            turned, masked = (np.asarray(resizer.cut(one, frame, change)).astype(int) for one in (image, mask))
            assert np.abs(turned[:, :, 0] - masked).max() <= 1, (mode, angle)


def test_the_angle_is_counter_clockwise():
    left = Image.new("L", (32, 32), 0)
    left.paste(255, (0, 0, 16, 32))
    resizer = Resizer("squash", 32, 32)

    turned = np.asarray(resizer.cut(left, Frame((32, 32)), Change(angle=90.0)))

    assert turned[20:].min() == 255 and turned[:12].max() == 0  # what was at the left is at the bottom


def test_every_variant_has_the_weights_of_its_own_angle():
    resizer, augmentation = Resizer("squash", 16, 16, "bilinear"), Augmentation(1, 4, rotation=90.0)
    mask = left_white(16, 16, 8)
    masks = Masks([mask], resizer, [(16, 16)], [0], factor=4, augmentation=augmentation)
    shown = batch([0] * 4, [False] * 4)
    shown.drawn_variants = np.arange(4)

    weights = masks.weights(shown)

    for variant, change in enumerate(augmentation.changes(0)):
        cut = np.asarray(resizer.cut(mask, Frame((16, 16)), change), dtype=np.float32)
        expected = cut.reshape(4, 4, 4, 4).mean(axis=(1, 3)) / 255
        np.testing.assert_allclose(weights[variant, 0], expected, atol=1e-6)
    assert np.abs(weights[1] - weights[0]).max() > 0.1
    np.testing.assert_array_equal(masks.whole(0), weights[0, 0])


def test_of_an_image_in_parts_only_those_with_something_to_learn_are_kept():
    resizer = Resizer("tiles", 16, 16, "bilinear", tile_rows=1)
    mask = left_white(64, 16, 16)
    frames = resizer.frames((64, 16), (16, 16))
    masks = Masks([mask], resizer, [(16, 16)], [0], factor=4, frames=[frames])

    assert len(frames) == 5 and masks.learned == [True, True, False, False, False]
    masks.keep_learned()
    assert masks.weights(batch([0, 1], [False, False])).shape == (2, 1, 4, 4)
    with pytest.raises(ImageError, match="black in all that is left"):
        Masks([left_white(64, 16, 0)], resizer, [(16, 16)], [0], factor=4, frames=[frames])
    assert Masks([mask], resizer, [(16, 16)], [0], 4, 0.5, frames=[frames]).learned == [True] * 5


def test_a_plain_background_is_a_source_of_masks_and_a_lively_one_is_named(tmp_path):
    image = Image.new("RGB", (1300, 900), "white")
    image.paste("navy", (400, 300, 900, 700))
    image.save(tmp_path / "plain.png")
    (found,) = masks_for([(tmp_path / "plain.png", (1300, 900))], None, source="plain_background", note=silent)

    mask = np.asarray(found.load())
    assert mask.shape == (900, 1300) and mask[500, 650] == 255 and mask[100, 100] == 0
    assert (mask > 127).mean() == pytest.approx(500 * 400 / (1300 * 900), rel=0.02)

    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with pytest.raises(ImageError, match=r"noise.png: its background is not plain: .*; give its mask in --mask_dir"):
        masks_for([(tmp_path / "noise.png", (64, 64))], None, source="plain_background", note=silent)
