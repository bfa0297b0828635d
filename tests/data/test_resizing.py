"""Images of any shape come to the model's shapes: buckets, crops, and where a random crop lies."""

import math

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data.resizing import Resizer, bucket_shapes, cut, nearest_shape
from textual_inversion.settings.choices import RESIZE_MODES


@pytest.mark.parametrize(
    ("height", "width", "multiple"), [(512, 512, 8), (768, 512, 8), (1024, 1024, 8), (64, 64, 8), (16, 16, 8)]
)
def test_buckets_have_about_the_targets_area_and_hold_the_target(height, width, multiple):
    shapes = bucket_shapes(height, width, multiple)

    assert (height, width) in shapes and {(w, h) for h, w in shapes} == set(shapes) | {(width, height)}
    step = 64 if height >= 256 else multiple
    for h, w in shapes:
        assert h % step == w % step == 0
        assert 0.8 * height * width <= h * w <= height * width
        assert max(h, w) <= 2 * max(height, width)
    assert len(shapes) == len(set(shapes)) >= 3


def test_the_buckets_of_512_are_those_of_large_models():
    wide = [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768), (384, 640), (448, 576)]

    assert bucket_shapes(512, 512, 8) == sorted([*wide, (512, 512), *((w, h) for h, w in wide)])


def test_a_target_that_is_no_multiple_of_64_is_still_a_bucket():
    assert (264, 264) in bucket_shapes(264, 264, 8)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1000, 1000), (512, 512)), ((3000, 4000), (576, 448)), ((1920, 1080), (384, 640)), ((5000, 100), (256, 1024))],
)
def test_an_image_goes_to_the_shape_nearest_to_its_own(size, shape):
    assert nearest_shape(size, bucket_shapes(512, 512, 8)) == shape


def test_width_and_height_are_treated_alike():
    shapes = bucket_shapes(512, 512, 8)
    for size in [(800, 533), (1000, 750), (1600, 900), (123, 45)]:
        assert nearest_shape(size, shapes) == nearest_shape(size[::-1], shapes)[::-1]


def test_only_taken_buckets_are_numbered_and_other_modes_have_one():
    sizes = [(1000, 1000), (1920, 1080), (999, 1000), (1080, 1920)]

    assert Resizer("bucket", 512, 512).buckets(sizes) == ([(384, 640), (512, 512), (640, 384)], [1, 0, 1, 2])
    for mode in ("squash", "center_crop", "random_crop"):
        assert Resizer(mode, 512, 256).buckets(sizes) == ([(512, 256)], [0] * 4)


def columns(width=96, height=32):
    """An image whose red says how far right a pixel stood."""
    red = np.broadcast_to(np.arange(width, dtype=np.uint8) * 2, (height, width))
    return Image.fromarray(np.stack([red, red, red], axis=-1))


def test_views_and_material_by_mode():
    whole, middle = np.asarray(columns()), np.asarray(columns())[:, 32:64]

    found = {mode: Resizer(mode, 32, 32, "nearest") for mode in RESIZE_MODES if mode != "bucket"}

    assert found["squash"].resize(columns(), (32, 32)).getpixel((31, 0))[0] > 180  # the right end is still there
    for mode in ("center_crop", "random_crop"):
        np.testing.assert_array_equal(np.asarray(found[mode].resize(columns(), (32, 32))), middle)
    np.testing.assert_array_equal(np.asarray(found["random_crop"].crop_source(columns(), (32, 32))), whole)
    assert found["center_crop"].crop_source(columns(), (32, 32)).size == (32, 32)


def test_a_bucket_loses_only_what_is_left_over():
    view = Resizer("bucket", 16, 16, "nearest").resize(columns(40, 16), (8, 24))

    views = Resizer("bucket", 16, 16, "nearest").resize_all(
        [columns(96, 24), columns(32, 32)], [(96, 24), (32, 32)], lambda it: it
    )

    assert [found.size for found in views] == [(32, 8), (16, 16)]
    # 40x16 keeps 40x13 of its pixels, of which none is squashed.
    assert view.size == (24, 8)
    assert view.getpixel((0, 0))[0] <= 2 and view.getpixel((23, 0))[0] >= 76


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (33, 31), (7, 50), (32, 32)])
def test_material_for_random_crops_holds_the_shape_and_no_more_than_it_must(size):
    material = Resizer("random_crop", 32, 24).crop_source(Image.new("RGB", size), (32, 24))

    assert material.height >= 32 and material.width >= 24
    assert material.height == 32 or material.width == 24
    aspect = size[0] / size[1]
    assert math.isclose(material.width / material.height, aspect, rel_tol=0.05)


def test_cuts_reach_every_place_alike_and_no_further():
    array = np.arange(6 * 9).reshape(1, 6, 9)

    corners = [cut(array, np.array(share), (4, 5), flipped=False)[0, 0, 0] for share in ((0, 0), (0.999, 0.999))]
    assert corners == [array[0, 0, 0], array[0, 2, 4]]
    places = [cut(array, np.array([0.5, s]), (6, 5), flipped=False)[0, 0, 0] for s in np.arange(0.05, 1, 0.1)]
    assert np.bincount(places).tolist() == [2] * 5
    np.testing.assert_array_equal(cut(array, np.array([0.0, 0.0]), (4, 5), flipped=True), array[:, :4, 4::-1])
    np.testing.assert_array_equal(cut(array, np.array([0.7, 0.9]), (6, 9), flipped=False), array)


def test_what_happens_is_said_where_it_is_not_plain():
    lines = []
    for mode in RESIZE_MODES:
        resizer = Resizer(mode, 512, 512)
        resizer.report([(384, 640), (512, 512)], [1, 0, 1], lines.append, encodes_live=mode == "random_crop")

    assert lines == [
        "random crops cannot be cached: the VAE stays in memory and encodes the samples of every step",
        "images by bucket (width x height): 640x384: 1, 512x512: 2",
    ]
