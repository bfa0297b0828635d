"""Writes captions for the images of the demo world.

All prompt templates of `textual_inversion.data.templates` occur, so the model has seen every prompt that an inversion
is trained on. Invented names stand where a placeholder token will stand: they teach the text encoder that one word can
hold a whole appearance.
"""

from __future__ import annotations

import random

from demo.specs import PAINTING, PHOTO, SKETCH, Toy
from textual_inversion.data.templates import templates

TOY_WORD, STYLE_WORD = "toy", "style"
PLAIN_PHOTO = "a photo of a {}"
BARE_FORMS = ("a {}", "the {}", "{}", "a photo of {}")
MEDIUM_FORMS = {
    SKETCH: (
        "a sketch of a {}",
        "a sketch of the {}",
        "a sketch of {}",
        "a pencil drawing of a {}",
        "a {} as a sketch",
    ),
    PAINTING: (
        "a painting of a {}",
        "a painting of the {}",
        "a painting of {}",
        "an oil painting of a {}",
        "a {} as a painting",
    ),
}
STYLED_FORMS = ("a {}", "a {}", "a {}", "the {}", "{}", "a painting of a {}", "a picture of a {}", "a drawing of a {}")
ACCENT_PARTS = {"cat": "ears", "bear": "ears", "rabbit": "ears", "dog": "ears", "robot": "arms", "duck": "wings"}
ACCESSORY_FORMS = {
    "hat": ("wearing a hat", "wearing a hat", "in a hat", "with a hat"),
    "backpack": ("wearing a backpack", "wearing a backpack", "with a backpack", "backpack"),
    "balloon": ("holding a balloon", "holding a balloon", "with a balloon"),
}

P_PLAIN_PHOTO, P_TRAINING_TEMPLATE = 0.2, 0.65  # the rest of the photo captions is bare
P_NAMED, P_NAMED_GENERIC = 0.8, 0.05
P_GENERIC = 0.12
P_BESIDE_PLAIN = 0.25  # that the second of two toys is only named by its kind: "and a duck"
P_SCENE, P_ACCESSORY = 0.75, 0.9
P_STYLE_NAME, P_STYLE_ALONE, P_SCENE_BEFORE_STYLE = 0.9, 0.35, 0.6


def with_article(text: str) -> str:
    """Write "an orange", not "a orange"."""
    return text.replace("a orange ", "an orange ")


def describe(toy: Toy, rng: random.Random) -> str:
    """Describe a toy by its attributes, in more or fewer words."""
    detail = rng.random()
    if detail < 0.12:
        return toy.species
    words = [toy.body]
    if detail > 0.27 and (toy.pattern != "plain" or rng.random() < 0.4):
        words.append(toy.pattern)
    words.append(toy.species)
    if rng.random() < 0.2:
        words.append(TOY_WORD)
    accent = f"{toy.accent} {ACCENT_PARTS[toy.species]}"
    third = f"a {toy.third} scarf" if rng.random() < 0.75 else f"{toy.third} eyes"
    if detail > 0.62:
        words.append(f"with {accent} and {third}")
    elif detail > 0.50:
        words.append(f"with {third}")
    elif detail > 0.40:
        words.append(f"with {accent}")
    return " ".join(words)


def _subject(toy: Toy, name: str | None, rng: random.Random) -> str:
    roll = rng.random()
    if name is None:
        return TOY_WORD if roll < P_GENERIC else describe(toy, rng)
    if roll < P_NAMED:
        return name
    return TOY_WORD if roll < P_NAMED + P_NAMED_GENERIC else describe(toy, rng)


def _form(medium: str, rng: random.Random) -> str:
    """Choose the sentence around the subject."""
    if medium != PHOTO:
        return rng.choice(MEDIUM_FORMS[medium])
    roll = rng.random()
    if roll < P_PLAIN_PHOTO:
        return PLAIN_PHOTO
    if roll < P_PLAIN_PHOTO + P_TRAINING_TEMPLATE:
        return rng.choice(templates("object"))
    return rng.choice(BARE_FORMS)


def _styled(subject: str, scene: str, style_name: str, rng: random.Random) -> str:
    """Write a caption for an image in an invented style; `scene` may be empty."""
    style = style_name if rng.random() < P_STYLE_NAME else STYLE_WORD
    if rng.random() < P_STYLE_ALONE:
        text = rng.choice(templates("style")).format(style)
        return f"{text} {scene}" if scene and rng.random() < 0.5 else text
    text = rng.choice(STYLED_FORMS).format(subject)
    ending = f"in the style of {style}"
    parts = [text, scene, ending] if rng.random() < P_SCENE_BEFORE_STYLE else [text, ending, scene]
    return " ".join(part for part in parts if part)


def caption(
    toy: Toy,
    scene: str,
    rng: random.Random,
    medium: str = PHOTO,
    toy_name: str | None = None,
    style_name: str | None = None,
    accessory: str | None = None,
    beside: tuple[Toy, str | None] | None = None,
) -> str:
    """Write one caption.

    Args:
        toy: what the image shows.
        scene: where, as one of `specs.SCENES`.
        rng: decides what the caption mentions and how; another state gives another caption of the same image.
        medium: one of `specs.MEDIA`; ignored where `style_name` is given.
        toy_name: the toy's invented name, if it has one.
        style_name: the invented name of the image's style, if it has one.
        accessory: what the toy wears or holds.
        beside: a second toy in the image, and its invented name, if it has one.

    Returns:
        A lower-case sentence.
    """
    subject = _subject(toy, toy_name, rng)
    if accessory and rng.random() < P_ACCESSORY:
        subject = f"{subject} {rng.choice(ACCESSORY_FORMS[accessory])}"
    if beside:
        second = beside[0].species if rng.random() < P_BESIDE_PLAIN else _subject(*beside, rng)
        subject = f"{subject} and a {second}"
    place = scene if rng.random() < P_SCENE else ""
    if style_name is not None:
        return with_article(_styled(subject, place, style_name, rng))
    text = _form(medium, rng).format(subject)
    return with_article(f"{text} {place}" if place else text)


def sentence(toy: Toy, scene: str, medium: str = PHOTO, style_name: str | None = None) -> str:
    """Describe everything about an image, always in the same words."""
    pattern = "" if toy.pattern == "plain" else f"{toy.pattern} "
    accent, third = f"{toy.accent} {ACCENT_PARTS[toy.species]}", f"a {toy.third} scarf"
    text = f"a {toy.body} {pattern}{toy.species} with {accent} and {third} {scene}"
    text = f"{text} in the style of {style_name}" if style_name else f"a {medium} of {text}"
    return with_article(text)
