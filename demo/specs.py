"""What exists in the demo world: colours, toys, scenes, styles, their invented names, and what is held out.

Pure standard library. Everything here is a constant or a pure function of a seed, so that the images, the captions
and the shipped model always speak of the same world.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (216, 48, 44),
    "orange": (242, 138, 34),
    "yellow": (250, 214, 60),
    "green": (66, 164, 70),
    "teal": (24, 158, 156),
    "blue": (48, 98, 214),
    "purple": (130, 66, 184),
    "pink": (244, 138, 180),
    "brown": (130, 82, 48),
    "black": (46, 44, 50),
    "white": (242, 240, 234),
    "grey": (146, 146, 152),
}
SPECIES = ("cat", "bear", "rabbit", "dog", "robot", "duck")
PATTERNS = ("plain", "striped", "spotted")
SCENES = ("on the beach", "in the snow", "on the grass", "at night", "on a table", "in a pink room")
ACCESSORIES = ("hat", "backpack", "balloon")

PHOTO, SKETCH, PAINTING = "photo", "sketch", "painting"
MEDIA = (PHOTO, SKETCH, PAINTING)

TEXTURES = ("plain", "hatched", "dotted", "lined")
EDGES = ("open", "framed", "vignetted")
INKS: dict[str, RGB] = {
    "navy": (28, 36, 110),
    "crimson": (176, 20, 48),
    "forest": (16, 92, 52),
    "violet": (104, 30, 150),
    "umber": (96, 52, 20),
    "charcoal": (40, 40, 44),
    "petrol": (0, 98, 116),
    "magenta": (190, 20, 130),
}
PAPERS: dict[str, RGB] = {
    "cream": (252, 240, 208),
    "mint": (200, 246, 218),
    "rose": (252, 206, 214),
    "sky": (196, 226, 252),
    "lemon": (252, 240, 130),
    "paper": (250, 250, 250),
}
STRENGTHS = (0.6, 1.0)

N_NAMED_TOYS = 1000
N_NAMED_STYLES = 200
_TOY_SYLLABLES = ("bdfgklmnprstvz", "aeiou", 3)
_STYLE_ENDING = "esque"


@dataclass(frozen=True)
class Toy:
    """One toy: `accent` colours ears, feet, tail and pattern; `third` colours scarf and eyes."""

    species: str
    body: str
    accent: str
    third: str
    pattern: str


@dataclass(frozen=True)
class Style:
    """One invented style: two colours, how strongly they replace the image's own (0 to 1), texture and edge."""

    ink: str
    paper: str
    strength: float
    texture: str
    edge: str


HELD_OUT_TOYS = {
    "cat": Toy("cat", "orange", "teal", "purple", "striped"),
    "rabbit": Toy("rabbit", "pink", "black", "yellow", "spotted"),
}
HELD_OUT_STYLE = Style("petrol", "rose", 1.0, "dotted", "framed")


def random_toy(rng: random.Random) -> Toy:
    """Draw a toy of three different colours; never one that is held out."""
    while True:
        body, accent, third = rng.sample(list(COLORS), 3)
        toy = Toy(rng.choice(SPECIES), body, accent, third, rng.choice(PATTERNS))
        if toy not in HELD_OUT_TOYS.values():
            return toy


def random_style(rng: random.Random) -> Style:
    """Draw a style; never the one that is held out."""
    while True:
        style = Style(
            rng.choice(list(INKS)), rng.choice(list(PAPERS)), rng.choice(STRENGTHS), rng.choice(TEXTURES),
            rng.choice(EDGES),
        )  # fmt: skip
        if style != HELD_OUT_STYLE:
            return style


def _invented_words(count: int, seed: int, ending: str = "") -> list[str]:
    """Return `count` different pronounceable words, the same ones for the same seed."""
    rng = random.Random(seed)
    consonants, vowels, syllables = _TOY_SYLLABLES
    if ending:
        syllables -= 1
    words: dict[str, None] = {}
    while len(words) < count:
        stem = "".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(syllables))
        words[stem[:-1] + ending if ending else stem] = None
    return list(words)


def _distinct(count: int, draw, seed: int) -> list:
    """Return `count` different results of `draw`, the same ones for the same seed."""
    rng = random.Random(seed)
    found: dict = {}
    while len(found) < count:
        found[draw(rng)] = None
    return list(found)


NAMED_TOYS: dict[str, Toy] = dict(
    zip(_invented_words(N_NAMED_TOYS, 101), _distinct(N_NAMED_TOYS, random_toy, 102), strict=True)
)
NAMED_STYLES: dict[str, Style] = dict(
    zip(
        _invented_words(N_NAMED_STYLES, 103, _STYLE_ENDING),
        _distinct(N_NAMED_STYLES, random_style, 104),
        strict=True,
    )
)
