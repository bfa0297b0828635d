"""Prompt templates: the prompts that contain the placeholder token while its vectors are learned.

Textual Inversion (arXiv 2208.01618, section 4) trains on many neutral prompts around the placeholder token, similar to
CLIP's zero-shot prompts, so that the vectors learn the concept and not one prompt. The templates here are built from
short word lists. Each has exactly one `{}`, for the placeholder token. Users can give their own templates in a file.
"""

from pathlib import Path

from textual_inversion.settings.choices import GENERIC_WORDS
from textual_inversion.system import user_files
from textual_inversion.system.errors import SettingsError

_GENERIC_WORDS_ZH = {"object": "玩具", "style": "艺术", "face": "人", "negative": "差"}

_OBJECT_EN = tuple(
    f"{article} {adjective}{medium} of {owner} {{}}"
    for article, adjective, medium, owner in (
        ("a", "", "photo", "a"),
        ("a", "", "photo", "the"),
        ("the", "", "photo", "a"),
        ("a", "", "photo", "one"),
        ("a", "", "photo", "my"),
        ("a", "good ", "photo", "a"),
        ("a", "good ", "photo", "the"),
        ("a", "bright ", "photo", "the"),
        ("a", "dark ", "photo", "the"),
        ("a", "clear ", "photo", "a"),
        ("a", "cropped ", "photo", "a"),
        ("a", "cropped ", "photo", "the"),
        ("a", "close-up ", "photo", "a"),
        ("a", "close-up ", "photo", "the"),
        ("a", "", "photo", "a small"),
        ("a", "", "photo", "the small"),
        ("a", "", "photo", "a large"),
        ("a", "", "photo", "the large"),
        ("a", "", "photo", "a nice"),
        ("a", "", "photo", "a cool"),
        ("a", "", "photo", "the clean"),
        ("a", "", "photo", "the weird"),
        ("a", "", "picture", "a"),
        ("a", "", "picture", "the"),
        ("a", "", "rendering", "a"),
        ("a", "", "rendition", "the"),
    )
)

_STYLE_EN = tuple(
    f"a {adjective}{medium} in the style of {{}}"
    for adjective, medium in (
        ("", "picture"),
        ("", "painting"),
        ("", "drawing"),
        ("", "rendering"),
        ("", "rendition"),
        ("good ", "painting"),
        ("bright ", "painting"),
        ("dark ", "painting"),
        ("clean ", "painting"),
        ("nice ", "painting"),
        ("cool ", "painting"),
        ("weird ", "painting"),
        ("small ", "painting"),
        ("large ", "painting"),
        ("cropped ", "painting"),
        ("close-up ", "painting"),
        ("good ", "picture"),
        ("cool ", "picture"),
    )
)

_FACE_EN = tuple(
    f"{article} {adjective}{medium} of {owner}{{}}"
    for article, adjective, medium, owner in (
        ("a", "", "photo", ""),
        ("a", "", "portrait", ""),
        ("a", "", "headshot", ""),
        ("a", "", "selfie", ""),
        ("a", "", "picture", ""),
        ("a", "", "photo", "the face of "),
        ("a", "", "photo", "a person called "),
        ("a", "good ", "photo", ""),
        ("a", "bright ", "photo", ""),
        ("a", "dark ", "photo", ""),
        ("a", "clear ", "photo", ""),
        ("a", "cropped ", "photo", ""),
        ("a", "close-up ", "photo", ""),
        ("a", "close-up ", "photo", "the face of "),
        ("a", "black and white ", "photo", ""),
        ("a", "cropped ", "portrait", ""),
        ("a", "studio ", "portrait", ""),
        ("a", "candid ", "photo", ""),
    )
)

# A word for what is not wanted stands alone in negative prompts, or among others, and may be about anything.
_NEGATIVE_EN = (
    "{}",
    *(
        template.format(medium)
        for medium in ("photo", "picture", "painting", "drawing", "rendering")
        for template in ("a {{}} {0}", "a {0}, {{}}", "a {0} in the style of {{}}")
    ),
)

_OBJECT_ZH = (
    "一张{}的照片",
    "一张好看的{}的照片",
    "一张明亮的{}的照片",
    "一张昏暗的{}的照片",
    "一张清晰的{}的照片",
    "一张裁剪的{}的照片",
    "一张{}的特写照片",
    "一张小{}的照片",
    "一张大{}的照片",
    "一张干净的{}的照片",
    "一张奇特的{}的照片",
    "我的{}的照片",
    "一幅{}的图片",
    "一幅{}的渲染图",
)

_STYLE_ZH = (
    "一幅{}风格的画",
    "一幅{}风格的图片",
    "一幅{}风格的素描",
    "一幅{}风格的渲染图",
    "一幅明亮的{}风格的画",
    "一幅昏暗的{}风格的画",
    "一幅干净的{}风格的画",
    "一幅好看的{}风格的画",
    "一幅奇特的{}风格的画",
    "一幅{}风格的小画",
    "一幅{}风格的大画",
    "一幅{}风格的特写画",
)

_FACE_ZH = (
    "一张{}的照片",
    "一张{}的肖像",
    "一张{}的自拍",
    "一张{}的大头照",
    "一张{}脸部的照片",
    "一张{}脸部的特写照片",
    "一张好看的{}的照片",
    "一张明亮的{}的照片",
    "一张昏暗的{}的照片",
    "一张清晰的{}的照片",
    "一张{}的黑白照片",
    "一张{}的生活照",
)

_NEGATIVE_ZH = (
    "{}照片",
    "一张{}照片",
    "一张照片，{}",
    "{}图片",
    "一幅{}图片",
    "一幅图片，{}",
    "一幅{}的画",
    "一幅画，{}",
    "一幅{}素描",
    "一幅素描，{}",
    "一幅{}渲染图",
    "一幅渲染图，{}",
)

_TEMPLATES = {
    ("object", "en"): _OBJECT_EN,
    ("style", "en"): _STYLE_EN,
    ("face", "en"): _FACE_EN,
    ("negative", "en"): _NEGATIVE_EN,
    ("object", "zh"): _OBJECT_ZH,
    ("style", "zh"): _STYLE_ZH,
    ("face", "zh"): _FACE_ZH,
    ("negative", "zh"): _NEGATIVE_ZH,
}

_PLAIN = {
    ("object", "en"): "a photo of a {}",
    ("style", "en"): "a picture in the style of {}",
    ("face", "en"): "a photo of {}",
    ("negative", "en"): "a picture, {}",
    ("object", "zh"): "一张{}的照片",
    ("style", "zh"): "一幅{}风格的图片",
    ("face", "zh"): "一张{}的照片",
    ("negative", "zh"): "一幅图片，{}",
}


def templates(learnable_property: str, language: str = "en") -> tuple[str, ...]:
    """All prompt templates for one kind of concept.

    Args:
        learnable_property: one of `choices.PROPERTIES`.
        language: one of `choices.LANGUAGES`; a bilingual model ("zh_en") is trained on both languages.

    Returns:
        Templates with exactly one `{}` each.

    Raises:
        KeyError: the property or the language is not listed.
    """
    if language == "zh_en":
        return _TEMPLATES[learnable_property, "zh"] + _TEMPLATES[learnable_property, "en"]
    return _TEMPLATES[learnable_property, language]


def with_short_ones(own: tuple[str, ...], blank: int, articled: int, language: str) -> tuple[str, ...]:
    """Templates, and behind them short ones so many times, each of which is drawn as often as any other.

    Args:
        blank: how often `{}` is among them, the placeholder token alone.
        articled: how often `a {}` is, in Chinese `一个{}`.
        language: one of `choices.LANGUAGES`.
    """
    return own + ("{}",) * blank + ("一个{}" if language == "zh" else "a {}",) * articled


def plain_template(learnable_property: str, language: str = "en") -> str:
    """The template that shows a concept by itself, for scores and overviews."""
    return _PLAIN[learnable_property, "en" if language == "en" else "zh"]


def generic_word(learnable_property: str, language: str = "en") -> str:
    """A word of the language for any concept of this kind."""
    return (GENERIC_WORDS if language == "en" else _GENERIC_WORDS_ZH)[learnable_property]


def read_templates(path: str | Path) -> tuple[str, ...]:
    """A user's own prompt templates: UTF-8, one per line. Blank lines and lines that start with `#` are skipped.

    `{}`, or `[name]` as in AUTOMATIC1111's files, marks the position of the placeholder token. `[filewords]` is
    replaced by the words of the image's file name.

    Raises:
        SettingsError: the file cannot be read, has no template, or has one without exactly one position for the token.
    """
    try:
        lines = user_files.read_text(path, user_files.PROMPTS).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"--template_file {path} cannot be read ({reason}); give a text file") from None
    found = []
    for number, line in enumerate(lines, 1):
        template = line.strip().replace("[name]", "{}")
        if not template or template.startswith("#"):
            continue
        if template.count("{}") != 1:
            raise SettingsError(
                f"--template_file {path}, line {number}: {template!r} must contain {{}} once, for the placeholder token"
            )
        found.append(template)
    if not found:
        raise SettingsError(
            f"--template_file {path} has no prompt template; write one per line, such as: a photo of a {{}}"
        )
    return tuple(found)
