"""Lines of letters are found, and what merely looks busy is none: ears, patterns, outlines and textures of toys."""

import numpy as np
import pytest
from PIL import ImageDraw, ImageFont

from demo.drawing import draw
from demo.specs import HELD_OUT_STYLE, HELD_OUT_TOYS, MEDIA, SCENES
from textual_inversion.data.text_in_images import _has_letters, has_text

CAT, RABBIT = HELD_OUT_TOYS["cat"], HELD_OUT_TOYS["rabbit"]


@pytest.mark.parametrize("medium", [*MEDIA, HELD_OUT_STYLE], ids=[*MEDIA, "invented style"])
@pytest.mark.parametrize("side", [128, 160, 256, 512])
def test_toys_of_all_sizes_and_media_are_no_text(medium, side):
    images = [draw(toy, scene, medium, side, seed=seed) for seed, (toy, scene) in
              enumerate((toy, scene) for toy in (CAT, RABBIT) for scene in SCENES[::2])]  # fmt: skip

    assert [has_text(image) for image in images] == [False] * len(images)


@pytest.mark.parametrize("text", ["Copyright by Someone", "www.example.com"])
@pytest.mark.parametrize("size", [24, 30, 40])
@pytest.mark.parametrize("ink", [(255, 255, 255), (255, 230, 90)])
def test_a_watermark_on_a_toy_is_text(text, size, ink):
    image = draw(CAT, "at night", "photo", 512, seed=3)
    ImageDraw.Draw(image).text((30, 20), text, font=ImageFont.load_default(size), fill=ink)

    assert has_text(image)


def bars(*heights, gap=3):
    """Dark bars of these heights on one line, 3 pixels wide, on paper: brightness float32 [24, W]."""
    box = np.full((24, (3 + gap) * len(heights) + 4), 0.9, np.float32)
    for number, height in enumerate(heights):
        box[20 - height : 20, 2 + number * (3 + gap) :][:, :3] = 0.1
    return box


def test_ink_on_a_line_is_letters_where_there_are_gaps_and_most_parts_are_high_enough():
    letters = bars(*[12, 9, 12, 8] * 3)

    assert _has_letters(letters) and _has_letters(1 - letters)  # dark or light
    assert not _has_letters(bars(*[12] * 12, gap=0))  # one block
    assert not _has_letters(bars(*[12, 2, 2, 2] * 3))  # a fringe
    assert not _has_letters(bars(*[20] * 12))  # stripes that go on to the edge
    assert not _has_letters(bars(*[12, 9, 12, 8]))  # too few
