"""Prompt templates that edit a concept: an object or a face in new scenes and media, a style on new subjects.

Those of a word for what is not wanted show it on several subjects: this is what a negative prompt leads away from.

`infer.py` shows a concept with them, and `score.py` measures with them how well the concept can still be edited (arXiv
2208.01618, section 5: background changes, style changes, compositions). Each template has exactly one `{}`. The Chinese
templates are translations of the English ones, in the same order.
"""

from collections.abc import Mapping, Sequence

from textual_inversion.settings.choices import NEGATIVE

EDITS = {
    "object": (
        "a photo of a {} on the beach",
        "a photo of a {} in the snow",
        "a photo of a {} on the grass",
        "a photo of a {} at night",
        "a photo of a {} on a table",
        "a sketch of a {}",
        "a painting of a {}",
    ),
    "style": (
        "a cat in the style of {}",
        "a dog in the style of {}",
        "a rabbit in the style of {}",
        "a robot in the style of {}",
        "a bear on the beach in the style of {}",
        "a duck in the snow in the style of {}",
        "a cat at night in the style of {}",
    ),
    "face": (
        "a photo of {} on the beach",
        "a photo of {} in the snow",
        "a photo of {} at night",
        "a photo of {} wearing a hat",
        "a photo of {} smiling",
        "a sketch of {}",
        "a painting of {}",
    ),
    NEGATIVE: (
        "a photo of a cat, {}",
        "a photo of a dog, {}",
        "a photo of a robot on the beach, {}",
        "a photo of a rabbit in the snow, {}",
        "a photo of a duck at night, {}",
        "a sketch of a bear, {}",
        "a painting of a cat, {}",
    ),
}

EDITS_ZH = {
    "object": (
        "一张沙滩上的{}的照片",
        "一张雪地里的{}的照片",
        "一张草地上的{}的照片",
        "一张夜晚的{}的照片",
        "一张桌子上的{}的照片",
        "一幅{}的素描",
        "一幅{}的油画",
    ),
    "style": (
        "一幅{}风格的猫",
        "一幅{}风格的狗",
        "一幅{}风格的兔子",
        "一幅{}风格的机器人",
        "一幅{}风格的沙滩上的熊",
        "一幅{}风格的雪地里的鸭子",
        "一幅{}风格的夜晚的猫",
    ),
    "face": (
        "一张{}在沙滩上的照片",
        "一张{}在雪地里的照片",
        "一张{}在夜晚的照片",
        "一张{}戴着帽子的照片",
        "一张{}微笑的照片",
        "一幅{}的素描",
        "一幅{}的油画",
    ),
    NEGATIVE: (
        "一张猫的照片，{}",
        "一张狗的照片，{}",
        "一张沙滩上的机器人的照片，{}",
        "一张雪地里的兔子的照片，{}",
        "一张夜晚的鸭子的照片，{}",
        "一幅熊的素描，{}",
        "一幅猫的油画，{}",
    ),
}

# Indices of a few templates, enough for a contact sheet that fits on a screen.
_SHOWN = {"object": (0, 1, 3, 5, 6), "style": (0, 2, 3, 4, 5), "face": (0, 1, 3, 5, 6), NEGATIVE: (0, 1, 2, 3, 5)}


def edits(kind: str, language: str = "en") -> tuple[str, ...]:
    """The edit templates of one kind of concept.

    Models that read both languages get the Chinese templates, since they were trained on Chinese.

    Args:
        kind: one of `choices.PROPERTIES`.
        language: one of `choices.LANGUAGES`.
    """
    return (EDITS if language == "en" else EDITS_ZH)[kind]


def showcase(
    kinds: Mapping[str, str], plain: Mapping[str, str], language: str = "en", *, most: int | None = None
) -> list[str]:
    """Prompts that show what was learned of some concepts.

    Args:
        kinds: placeholder token -> one of `choices.PROPERTIES`.
        plain: each of these kinds -> the prompt template that shows a concept by itself, with one `{}`.
        language: one of `choices.LANGUAGES`.
        most: so many of them at most, chosen so that every concept has its turn; None: all.

    Returns:
        Each concept by itself and in a few edits; where there are styles, each object and face in each style too. Words
        for what is not wanted are shown only where there is no other.
    """
    groups, wanted = [], {token: kind for token, kind in kinds.items() if kind != NEGATIVE}
    for token, kind in (wanted or kinds).items():
        shown = [edits(kind, language)[i] for i in _SHOWN[kind]]
        groups.append([template.format(token) for template in (plain[kind], *shown)])
    return _first_of_each([*groups, _in_styles(wanted, language)], most)


def _in_styles(kinds: Mapping[str, str], language: str) -> list[str]:
    """Each object and face in each style."""
    styles = [token for token, kind in kinds.items() if kind == "style"]
    if language != "en":
        things = [token for token, kind in kinds.items() if kind != "style"]
        return [f"一幅{style}风格的{thing}" for thing in things for style in styles]
    things = [f"a {token}" if kind == "object" else token for token, kind in kinds.items() if kind != "style"]
    return [f"{thing} in the style of {style}" for thing in things for style in styles]


def _first_of_each(groups: Sequence[Sequence[str]], most: int | None) -> list[str]:
    """At most so many prompts, of all groups in turn, in the order of the groups."""
    turns = sorted((turn, number) for number, group in enumerate(groups) for turn in range(len(group)))[:most]
    return [groups[number][turn] for number, turn in sorted((number, turn) for turn, number in turns)]


def without_placeholder(template: str) -> str:
    """A template's text with the placeholder left out, as in the paper: "a photo of a on the beach"."""
    return " ".join(template.replace("{}", " ").split())
