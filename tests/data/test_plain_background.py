"""What stands before a plain background, by value; other images are refused."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from textual_inversion.data.plain_background import NotPlain, foreground

SHAPE, WHITE = (120, 160), (250, 250, 250)


def ground(first, last, noise=3.0, shape=SHAPE):
    """A colour that becomes another one from left to right, with noise."""
    t = np.linspace(0, 1, shape[1])[None, :, None]
    values = np.array(first) * (1 - t) + np.array(last) * t + np.zeros((*shape, 1))
    return np.clip(values + np.random.default_rng(0).normal(0, noise, values.shape), 0, 255).astype(np.uint8)


def with_thing(pixels, draw):
    image = Image.fromarray(pixels)
    draw(ImageDraw.Draw(image))
    return np.asarray(image)


def truth(draw, shape=SHAPE):
    return with_thing(np.zeros((*shape, 3), np.uint8), draw).any(axis=2)


@pytest.mark.parametrize(
    ("first", "last"),
    [(WHITE, WHITE), ((250, 250, 250), (200, 205, 210)), ((10, 10, 12), (40, 40, 44)),
     ((30, 160, 60), (60, 190, 90))],
)  # fmt: skip
@pytest.mark.parametrize(
    "box",
    [(50, 30, 110, 90), (100, 60, 158, 119), (40, 70, 120, 140)],
    ids=["within", "near a corner", "cut off below"],
)
def test_the_thing_is_found_to_a_pixel_or_so(first, last, box):
    def draw(d):
        d.ellipse(box, fill=(200, 50, 160))

    mask = foreground(with_thing(ground(first, last), draw))

    wrong = (mask > 127) != truth(draw)
    assert mask.shape == SHAPE and mask.dtype == np.uint8
    assert wrong.mean() < 0.01
    assert set(np.unique(mask)) - {0, 255}, "the edge is soft"


def test_what_has_the_grounds_colour_within_the_thing_stays_part_of_it():
    def draw(d):
        d.ellipse((40, 20, 120, 100), fill="navy")
        d.ellipse((70, 50, 90, 70), fill=WHITE)

    assert foreground(with_thing(ground(WHITE, WHITE), draw))[60, 80] == 255


def test_the_ground_is_followed_around_corners_and_between_things():
    def draw(d):
        d.rectangle((20, 20, 60, 100), fill="navy")
        d.rectangle((90, 20, 140, 28), fill="navy")
        d.rectangle((90, 20, 98, 100), fill="navy")
        d.rectangle((90, 92, 140, 100), fill="navy")

    mask = foreground(with_thing(ground(WHITE, (240,) * 3), draw))

    assert mask[60, 120] == 0 and mask[60, 75] == 0 and mask[60, 40] == 255 and mask[24, 120] == 255


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        ((0, 0, 79, 119), "of its border has one colour"),
        ((0, 50, 160, 70), "reaches across it from one side to the other"),
        ((50, 0, 60, 120), "reaches across it from one side to the other"),
        (None, "nothing stands out"),
    ],
    ids=["two halves", "a horizon", "a pole", "nothing"],
)
def test_what_is_not_plain_is_refused(thing, reason):
    pixels = with_thing(ground(WHITE, WHITE), lambda d: d.rectangle(thing, fill="navy") if thing else None)

    with pytest.raises(NotPlain, match=reason):
        foreground(pixels)


def test_noise_and_a_narrow_frame_are_no_ground():
    with pytest.raises(NotPlain, match="of its border has one colour"):
        foreground(np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), dtype=np.uint8))
    framed = with_thing(ground(WHITE, WHITE, shape=(900, 900)), lambda d: d.rectangle((20, 20, 879, 879), fill="navy"))
    assert foreground(framed)[450, 450] == 255
