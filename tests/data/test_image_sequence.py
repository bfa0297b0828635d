"""A sequence of images makes those that are asked for, each time anew."""

import pytest
from PIL import Image

from textual_inversion.data.image_sequence import ImageSequence


def test_images_are_made_when_they_are_asked_for_and_not_kept():
    made = []
    images = ImageSequence([10, 20, 30, 40], lambda side: made.append(side) or Image.new("RGB", (side, side)))

    assert len(images) == 4 and made == []
    assert images[1].width == 20 and images[-1].width == 40
    assert [image.width for image in images[1:3]] == [20, 30]
    assert [image.width for image in images.where([True, False, False, True])] == [10, 40]
    assert made == [20, 40, 20, 30, 10, 40]
    with pytest.raises(IndexError):
        images[4]
