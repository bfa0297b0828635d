"""Lines of letters are found, and what merely looks busy is none: ears, patterns, outlines and textures of toys."""

import numpy as np
import pytest
from PIL import ImageDraw, ImageFont

from demo import drawing
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


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("side", [112, 128, 144, 160, 192])
def test_eyes_whose_thin_outlines_fall_into_dots_are_no_text(monkeypatch, side, times):
    """How thin they are in the end depends on how much larger they are drawn first."""
    monkeypatch.setattr(drawing, "canvas_width", lambda size: times * size)
    images = [draw(toy, scene, "photo", side, seed=seed) for seed, (toy, scene) in
              enumerate((toy, scene) for toy in (CAT, RABBIT) for scene in SCENES)]  # fmt: skip

    assert [has_text(image) for image in images] == [False] * len(images)


@pytest.mark.parametrize("text", ["Copyright by Someone", "www.example.com"])
@pytest.mark.parametrize("size", [24, 30, 40])
@pytest.mark.parametrize("ink", [(255, 255, 255), (255, 230, 90)])
def test_a_watermark_on_a_toy_is_text(text, size, ink):
    image = draw(CAT, "at night", "photo", 512, seed=3)
    ImageDraw.Draw(image).text((30, 20), text, font=ImageFont.load_default(size), fill=ink)

    assert has_text(image)


def bars(*heights, gap=3, feet=(20,)):
    """Dark bars of these heights, 3 pixels wide, with their feet in these rows in turns: brightness float32 [24, W]."""
    box = np.full((24, (3 + gap) * len(heights) + 4), 0.9, np.float32)
    for number, height in enumerate(heights):
        foot = feet[number % len(feet)]
        box[foot - height : foot, 2 + number * (3 + gap) :][:, :3] = 0.1
    return box


def test_ink_on_a_line_is_letters_where_there_are_gaps_and_most_parts_are_high_enough():
    letters = bars(*[12, 9, 12, 8] * 3)

    assert _has_letters(letters) and _has_letters(1 - letters)  # dark or light
    assert not _has_letters(bars(*[12] * 12, gap=0))  # one block
    assert not _has_letters(bars(*[12, 2, 2, 2] * 3))  # a fringe
    assert not _has_letters(bars(*[20] * 12))  # stripes that go on to the edge
    assert not _has_letters(bars(*[12, 9, 12, 8]))  # too few


def test_letters_are_unbroken_stand_on_one_line_and_fill_it():
    dotted = bars(*[12, 9, 12, 8] * 3)
    for number in range(12):  # not all at the same heights, which would be so many lines
        dotted[number % 2 :: 2, 6 * number : 6 * number + 6] = 0.9

    assert _has_letters(bars(*[9] * 12, feet=(18, 18, 18, 21)))  # some reach below, as g does
    assert not _has_letters(bars(*[9] * 12, feet=(13, 21, 17)))
    assert not _has_letters(dotted)
    assert _has_letters(bars(*[4] * 12)) and not _has_letters(bars(*[3] * 12))
    assert _has_letters(bars(*[12, 9, 12, 8] * 3, gap=12)) and not _has_letters(bars(*[12, 9, 12, 8] * 3, gap=50))
