"""Recognizes with a CLIP model what images of the demo world show, and counts how often that is right.

Zero-shot: the true description of an image competes with descriptions in which one attribute is changed, to each of
its other values.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from demo.captions import sentence
from demo.drawing import SIZE, draw
from demo.specs import COLORS, NAMED_STYLES, PATTERNS, PHOTO, SCENES, SPECIES, Toy, random_toy
from demo.toyworld import FIRST_PAIR, Picture, picture

CHOICES = {
    "species": SPECIES, "body": tuple(COLORS), "accent": tuple(COLORS), "third": tuple(COLORS), "pattern": PATTERNS,
}  # fmt: skip
STYLE = "style"
ATTRIBUTES = (*CHOICES, "scene")


@dataclass(frozen=True)
class Shown:
    """What an image should show."""

    toy: Toy
    scene: str
    style_name: str | None = None

    @property
    def description(self) -> str:
        """A description of all of it."""
        return sentence(self.toy, self.scene, style_name=self.style_name)

    def drawing(self, seed: int, size: int = SIZE):
        """A drawing of it: RGB, `size` by `size` pixels."""
        style = NAMED_STYLES[self.style_name] if self.style_name else PHOTO
        return draw(self.toy, self.scene, style, size, seed=seed)


def descriptions(shown: Shown, attribute: str) -> list[str]:
    """The true description first, then those with each other value of an attribute, the scene or the style's name."""
    if attribute == "scene":
        others = [replace(shown, scene=other) for other in SCENES if other != shown.scene]
    elif attribute == STYLE:
        others = [replace(shown, style_name=other) for other in NAMED_STYLES if other != shown.style_name]
    else:
        values = [value for value in CHOICES[attribute] if value != getattr(shown.toy, attribute)]
        others = [replace(shown, toy=replace(shown.toy, **{attribute: value})) for value in values]
    return [one.description for one in (shown, *others)]


def random_shown(count: int, seed: int, accept: Callable[[Toy], bool] = lambda toy: True) -> list[Shown]:
    """Random toys that are accepted, each in a scene."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        toy = random_toy(rng)
        if accept(toy):
            found.append(Shown(toy, rng.choice(SCENES)))
    return found


def named_pairs(count: int) -> list[Picture]:
    """The first photos of the training world that show two toys with invented names."""
    pairs = (picture(index) for index in itertools.count(FIRST_PAIR))
    named = (one for one in pairs if one.toy_name and one.beside_name and one.medium == PHOTO)
    return list(itertools.islice(named, count))


def random_styled(count: int, seed: int) -> list[Shown]:
    """Random toys in scenes, each in a named style."""
    rng = random.Random(seed + 1)
    return [replace(shown, style_name=rng.choice(list(NAMED_STYLES))) for shown in random_shown(count, seed)]


def accuracies(scorer, images: Sequence, shown: Sequence[Shown], attributes: Sequence[str]) -> dict[str, float]:
    """How often the true description is the nearest one, by attribute.

    Args:
        scorer: a `clip.ClipScorer`, or an object with its two methods.
        images: RGB PIL images, one for each of `shown`.
    """
    features, found = scorer.image_features(images), {}
    for attribute in attributes:
        told = [descriptions(one, attribute) for one in shown]
        places = {text: place for place, text in enumerate(dict.fromkeys(text for texts in told for text in texts))}
        known = scorer.text_features(list(places), trimmed=True)
        nearest = [
            int(np.argmax(known[[places[text] for text in texts]] @ feature))
            for texts, feature in zip(told, features, strict=True)
        ]
        found[attribute] = sum(place == 0 for place in nearest) / len(nearest)
    return found
