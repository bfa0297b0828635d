"""Each look at the training images: a made-up case in which it fires, and one in which it does not."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from helpers.paths import ROOT
from textual_inversion.data.image_checks import (
    BACKGROUND,
    BLUR,
    BORDERS,
    CROPPED,
    DUPLICATE,
    ODD,
    STRETCHED,
    TEXT,
    TINY,
    look_at,
    problems,
)
from textual_inversion.data.images import fit

SIDE = 128
CATS = [Image.open(path).convert("RGB") for path in sorted((ROOT / "cat_toy_images").glob("*.png"))]


def drawn(thing=(200, 80, 40), background=(90, 140, 200), *, at=(0.3, 0.3), side=256, seed=0):
    """A square with an eye on a plain background with a few dots."""
    image = Image.new("RGB", (side, side), background)
    draw, g = ImageDraw.Draw(image), np.random.default_rng(seed)
    for x, y in g.integers(0, side, (12, 2)):
        draw.ellipse((x, y, x + side // 16, y + side // 16), fill=tuple(g.integers(0, 255, 3).tolist()))
    left, top = (round(share * side) for share in at)
    draw.rectangle((left, top, left + side // 3, top + side // 3), fill=thing)
    draw.ellipse((left + side // 10, top + side // 10, left + side // 5, top + side // 5), fill=(0, 0, 0))
    return image


def found(*images, crops=False, size=(SIDE, SIDE), **about):
    """check -> names of the images that it names, or [] where it is of all."""
    looks = [
        look_at(f"{number}.png", image, fit(image, *size, center_crop=crops), crops=crops)
        for number, image in enumerate(images)
    ]
    names = {}
    for finding in problems(looks, **about):
        own = names.setdefault(finding.check, [])
        own += [finding.text.split()[0]] if finding.text.split()[0].endswith(".png") else []
    return names


def test_nothing_is_found_among_the_demos_own_toys():
    assert found(*CATS) == {}
    assert found(*CATS, size=(64, 64)) == {} and found(*CATS, crops=True) == {}


# --------------------------------------------------------------------------------------------------------- duplicates


def jpeg(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


COPIES = {
    "a copy": lambda image: image.copy(),
    "saved anew": jpeg,
    "smaller": lambda image: image.resize((150, 150)),
    "mirrored": ImageOps.mirror,
    "lighter": lambda image: image.point(lambda value: min(255, round(0.85 * value + 35))),
    "a margin cut off": lambda image: image.crop((4, 4, image.width - 4, image.height - 4)),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_copy_of_an_image_is_named_once_with_the_first_of_it(copy):
    looks = [look_at(f"{i}.png", image, fit(image, SIDE, SIDE), crops=False) for i, image in
             enumerate([*CATS, copy(CATS[2])])]  # fmt: skip

    texts = [finding.text for finding in problems(looks) if finding.check == DUPLICATE]

    assert texts == ["6.png is nearly the same as 2.png; leave one out"]


def test_the_same_thing_elsewhere_on_the_same_background_is_no_duplicate():
    images = [drawn(at=at) for at in ((0.1, 0.1), (0.5, 0.2), (0.3, 0.5))]

    assert DUPLICATE not in found(*images)


# ---------------------------------------------------------------------------------------------- one image by itself


def test_an_image_that_is_blurred_at_the_models_size_is_named_and_one_that_reduction_sharpens_is_not():
    blurred = CATS[0].filter(ImageFilter.GaussianBlur(24))
    slightly = CATS[0].filter(ImageFilter.GaussianBlur(4))

    assert found(CATS[0], blurred) == {BLUR: ["1.png"]}
    assert found(slightly, size=(64, 64)) == {}
    assert found(slightly, size=(512, 512)) == {BLUR: ["0.png"]}


def test_an_image_of_one_colour_is_named():
    assert found(Image.new("RGB", (256, 256), (20, 90, 30))) == {BLUR: ["0.png"]}


@pytest.mark.parametrize(("side", "fires"), [(64, True), (90, False), (128, False), (500, False)])
def test_an_image_that_is_enlarged_is_named(side, fires):
    assert (found(drawn(side=256).resize((side, side))).get(TINY) == ["0.png"]) is fires


@pytest.mark.parametrize(("width", "height", "fires"), [(512, 256, True), (256, 512, True), (300, 256, False)])
def test_an_image_that_is_squashed_is_named_and_one_that_is_cropped_is_not(width, height, fires):
    image = drawn(side=512).resize((width, height))

    assert (STRETCHED in found(image)) is fires
    assert STRETCHED not in found(image, crops=True)


@pytest.mark.parametrize(("width", "fires"), [(512, True), (400, False), (256, False)])
def test_an_image_that_loses_much_of_itself_is_named(width, fires):
    image = drawn(side=512).resize((width, 256))

    assert (CROPPED in found(image, crops=True)) is fires
    assert CROPPED not in found(image)


@pytest.mark.parametrize(
    "bars", [(0, 30, 0, 30), (40, 0, 40, 0), (20, 20, 20, 20)], ids=["letterbox", "sides", "frame"]
)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (30, 60, 200)])
def test_bars_at_two_edges_are_named(bars, colour):
    image = ImageOps.expand(CATS[0].resize((300, 300)), bars, colour)

    assert found(image).get(BORDERS) == ["0.png"]


def test_a_plain_background_a_floor_and_a_frame_of_a_style_are_no_bars():
    plain = Image.new("RGB", (300, 300), (255, 255, 255))
    ImageDraw.Draw(plain).ellipse((60, 60, 240, 240), fill=(200, 30, 30))
    floor = plain.copy()
    floor.paste((120, 80, 40), (0, 220, 300, 300))
    framed = ImageOps.expand(CATS[0], 40, (0, 0, 0))

    assert BORDERS not in found(plain, floor)
    assert BORDERS not in found(framed, is_style=True) and BORDERS in found(framed)


def lettered(image, size, colour, at=(40, 200)):
    image = image.copy()
    ImageDraw.Draw(image).text(at, "Sample photo 2024", font=ImageFont.load_default(size), fill=colour)
    return image


@pytest.mark.parametrize("size", [20, 26, 34])
@pytest.mark.parametrize("number", range(3))
def test_a_line_of_letters_is_named(size, number):
    dark = Image.new("RGB", (512, 512), (20, 20, 60))
    light = Image.new("RGB", (512, 512), (235, 230, 220))
    image, colour = [(dark, (255, 255, 255)), (light, (0, 0, 0)), (CATS[3], (255, 255, 255))][number]

    assert TEXT in found(lettered(image, size, colour, at=(40, 20)))


def stripes():
    image = Image.new("RGB", (512, 512), (255, 255, 255))
    for x in range(0, 512, 8):
        ImageDraw.Draw(image).rectangle((x, 0, x + 3, 511), fill=(0, 0, 0))
    return image


NO_TEXT = {
    "noise": lambda: Image.fromarray(np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)),
    "stripes": stripes,
    "drawing": lambda: drawn(side=512),
    "blank": lambda: Image.new("RGB", (512, 512), (255, 255, 255)),
}


@pytest.mark.parametrize("image", NO_TEXT.values(), ids=NO_TEXT)
def test_texture_and_drawings_are_no_text(image):
    assert TEXT not in found(image())


# ---------------------------------------------------------------------------------------------------- all together


def units(*angles):
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles], np.float32)


def test_the_odd_one_is_named_by_its_features_where_there_are_any():
    images = CATS[:5]

    assert found(*images, features=units(0.0, 0.1, 0.2, 0.1, 1.2), backgrounds=np.eye(5)) == {ODD: ["4.png"]}
    assert found(*images, features=units(0.0, 0.1, 0.2, 0.1, 0.3), backgrounds=np.eye(5)) == {}
    assert found(*images, features=np.eye(5), backgrounds=np.eye(5)) == {}  # all differ alike
    assert found(*images[:3], features=units(0.0, 0.0, 1.5), backgrounds=np.eye(3)) == {}  # too few to tell
    assert found(*images, features=units(0.0, 0.1, 0.2, 0.1, 1.2), backgrounds=np.eye(5), is_style=True) == {}


def test_the_odd_one_is_named_by_its_colours_where_there_is_no_clip_model():
    other = Image.new("RGB", (512, 512), (10, 250, 10))
    ImageDraw.Draw(other).rectangle((100, 100, 300, 300), fill=(250, 10, 250))

    assert found(*CATS, other).get(ODD) == ["6.png"]
    assert ODD not in found(*CATS)


def test_a_background_that_all_share_is_said_once():
    same = [drawn(at=at) for at in ((0.2, 0.2), (0.45, 0.3), (0.3, 0.45), (0.4, 0.2))]
    others = [drawn(background=colour, seed=seed) for seed, colour in
              enumerate([(250, 240, 230), (20, 30, 90), (90, 200, 80), (200, 60, 60)])]  # fmt: skip

    assert found(*same) == {BACKGROUND: []}
    assert BACKGROUND not in found(*others) and BACKGROUND not in found(*same[:2])
    assert BACKGROUND not in found(*same, has_masks=True) and BACKGROUND not in found(*same, is_style=True)


def test_a_background_that_looks_the_same_to_clip_is_said():
    alike, unlike = units(0.0, 0.1, 0.2, 0.3), units(0.0, 1.0, 2.0, 3.0)

    assert BACKGROUND in found(*CATS[:4], features=units(0, 0, 0, 0), backgrounds=alike)
    assert BACKGROUND not in found(*CATS[:4], features=units(0, 0, 0, 0), backgrounds=unlike)


def test_every_check_has_been_seen_to_fire_and_says_what_to_do():
    looks = [look_at("a.png", CATS[0], fit(CATS[0], 64, 64), crops=False)]
    worst = dataclasses.replace(looks[0], name="b.png", contrast=0.5, sharpness=0, enlarged=9, stretched=9,
                                 cropped=0.9, has_borders=True, has_text=True)  # fmt: skip

    checks = {finding.check for finding in problems([looks[0], worst])}

    assert checks == {DUPLICATE, BLUR, TINY, STRETCHED, CROPPED, BORDERS, TEXT}
    assert all(";" in finding.text and "\n" not in finding.text for finding in problems([looks[0], worst]))
