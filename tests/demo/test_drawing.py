"""Drawings of one thing at several sizes show the same lines."""

import numpy as np
import pytest
from PIL import Image

from demo.drawing import canvas_width, draw
from demo.specs import HELD_OUT_TOYS, SCENES


@pytest.mark.parametrize(
    ("size", "width"), [(32, 384), (64, 384), (96, 384), (128, 384), (160, 480), (192, 384), (256, 512), (512, 1024)]
)
def test_an_image_is_drawn_at_a_multiple_of_its_side_and_at_twice_that_at_the_least(size, width):
    assert canvas_width(size) == width and width % size == 0


@pytest.mark.parametrize("scene", SCENES)
def test_an_image_of_64_pixels_is_one_of_128_made_smaller(scene):
    small, large = (draw(HELD_OUT_TOYS["cat"], scene, size=size, seed=3) for size in (64, 128))

    off = np.abs(np.asarray(large.resize((64, 64), Image.Resampling.LANCZOS), float) - np.asarray(small, float))
    assert off.mean() < 1
