"""The demo world: images of toys with captions, each a pure function of a number.

`picture(index)` says what image number `index` of the training world shows; `Picture.draw` draws it at any size;
`Picture.caption` writes about it. The held-out toys and the held-out style never occur there: they are what a user
of the demo teaches the model. `fresh_drawings` draws these.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from demo import captions, drawing
from demo.specs import (
    ACCESSORIES,
    HELD_OUT_STYLE,
    HELD_OUT_TOYS,
    MEDIA,
    NAMED_STYLES,
    NAMED_TOYS,
    PHOTO,
    SCENES,
    Style,
    Toy,
    random_toy,
)

FIRST_PAIR = 82_000  # from this number on, images show two toys
P_NAMED_TOY = 0.6
P_ACCESSORY = 0.1
INVENTED = "invented"
MEDIUM_WEIGHTS = {"photo": 0.68, "sketch": 0.08, "painting": 0.08, INVENTED: 0.16}
HELD_OUT_NAMES = (*HELD_OUT_TOYS, "style")

_PICTURE_SEED, _CAPTION_SEED, _FRESH_SEED = 7919, 104_729, 1_299_709  # keep the three sequences apart


@dataclass(frozen=True)
class Picture:
    """What one image shows. `medium` is one of `specs.MEDIA`, or `INVENTED` with the style's name."""

    index: int
    toy: Toy
    scene: str
    medium: str = PHOTO
    toy_name: str | None = None
    style_name: str | None = None
    accessory: str | None = None
    beside: Toy | None = None
    beside_name: str | None = None

    def draw(self, size: int = drawing.SIZE) -> Image.Image:
        """Draw the image, RGB, `size` by `size` pixels."""
        style = NAMED_STYLES[self.style_name] if self.style_name else self.medium
        return drawing.draw(
            self.toy, self.scene, style, size, seed=self.index, accessory=self.accessory, beside=self.beside
        )

    def caption(self, variant: int = 0) -> str:
        """Write one of many captions of the image."""
        rng = random.Random(_CAPTION_SEED * (self.index + 1) + variant)
        beside = (self.beside, self.beside_name) if self.beside else None
        return captions.caption(
            self.toy, self.scene, rng, self.medium, self.toy_name, self.style_name, self.accessory, beside
        )


def picture(index: int) -> Picture:
    """Return image number `index` of the training world."""
    rng = random.Random(_PICTURE_SEED * (index + 1))
    toy, name = random_toy(rng), None
    if rng.random() < P_NAMED_TOY:
        name, toy = rng.choice(list(NAMED_TOYS.items()))
    scene = rng.choice(SCENES)
    medium = rng.choices(list(MEDIUM_WEIGHTS), list(MEDIUM_WEIGHTS.values()))[0]
    style_name = rng.choice(list(NAMED_STYLES)) if medium == INVENTED else None
    if index < FIRST_PAIR:
        accessory = rng.choice(ACCESSORIES) if rng.random() < P_ACCESSORY else None
        return Picture(index, toy, scene, medium, name, style_name, accessory)
    beside, beside_name = random_toy(rng), None
    if rng.random() < P_NAMED_TOY:
        beside_name, beside = rng.choice([item for item in NAMED_TOYS.items() if item[1] != toy])
    return Picture(index, toy, scene, medium, name, style_name, None, beside, beside_name)


def fresh_drawings(name: str, count: int, size: int = drawing.SIZE, seed: int = 0) -> list[Image.Image]:
    """Draw a held-out concept anew: what a perfect inversion would generate.

    Args:
        name: "cat" or "rabbit" (that toy as a photo, in every scene in turn), or "style" (any toys in that style).
        count: number of drawings.
        size: side in pixels.
        seed: another seed gives other drawings.

    Returns:
        RGB images. No drawing equals one that ships with the project as long as `seed` is not negative.

    Raises:
        KeyError: no such held-out concept.
    """
    if name not in HELD_OUT_NAMES:
        raise KeyError(f"{name!r} is not a held-out concept; there are {', '.join(HELD_OUT_NAMES)}")
    rng = random.Random(_FRESH_SEED * (seed + 1))
    images = []
    for index in range(count):
        scene, jitter = SCENES[index % len(SCENES)], rng.getrandbits(32)
        toy: Toy = HELD_OUT_TOYS[name] if name in HELD_OUT_TOYS else random_toy(rng)
        style: str | Style = PHOTO if name in HELD_OUT_TOYS else HELD_OUT_STYLE
        images.append(drawing.draw(toy, scene, style, size, seed=jitter))
    return images


def masked_drawings(name: str, count: int, size: int = drawing.SIZE) -> list[tuple[Image.Image, Image.Image]]:
    """The first drawings of `fresh_drawings`, each with a mask of the toy; [] for a style, which is everywhere."""
    if name not in HELD_OUT_TOYS:
        return []
    rng, toy = random.Random(_FRESH_SEED), HELD_OUT_TOYS[name]
    drawn = []
    for index in range(count):
        scene, jitter = SCENES[index % len(SCENES)], rng.getrandbits(32)
        drawn.append((drawing.draw(toy, scene, PHOTO, size, seed=jitter), drawing.thing_mask(toy, scene, size, jitter)))
    return drawn


def held_out_caption(name: str, scene: str) -> str:
    """Describe a held-out toy by its attributes: the best a prompt can say without its word."""
    toy = HELD_OUT_TOYS[name]
    part = captions.ACCENT_PARTS[toy.species]
    return captions.with_article(
        f"a photo of a {toy.body} {toy.pattern} {toy.species} with {toy.accent} {part} and a {toy.third} scarf {scene}"
    )


__all__ = ["HELD_OUT_NAMES", "MEDIA", "Picture", "fresh_drawings", "held_out_caption", "picture"]
