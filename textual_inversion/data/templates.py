"""Training prompts: the sentences a placeholder stands in while its rows are learned.

Textual Inversion (arXiv 2208.01618, section 4) trains on neutral sentences around the placeholder, in the manner of
CLIP's zero-shot prompts, so that the rows learn the concept and not one sentence. The sentences here are put together
from short word lists; each has exactly one `{}` where the placeholder goes. A user's own sentences come from a file.
"""

from pathlib import Path

from textual_inversion.settings.choices import GENERIC_WORDS
from textual_inversion.system.errors import SettingsError

_GENERIC_WORDS_ZH = {"object": "玩具", "style": "艺术", "face": "人"}

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

_TEMPLATES = {
    ("object", "en"): _OBJECT_EN,
    ("style", "en"): _STYLE_EN,
    ("face", "en"): _FACE_EN,
    ("object", "zh"): _OBJECT_ZH,
    ("style", "zh"): _STYLE_ZH,
    ("face", "zh"): _FACE_ZH,
}

_PLAIN = {
    ("object", "en"): "a photo of a {}",
    ("style", "en"): "a picture in the style of {}",
    ("face", "en"): "a photo of {}",
    ("object", "zh"): "一张{}的照片",
    ("style", "zh"): "一幅{}风格的图片",
    ("face", "zh"): "一张{}的照片",
}


def templates(learnable_property: str, language: str = "en") -> tuple[str, ...]:
    """All training sentences for one kind of concept.

    Args:
        learnable_property: one of `PROPERTIES`.
        language: one of `LANGUAGES`; a bilingual model ("zh_en") is trained on both languages.

    Returns:
        Sentences with exactly one `{}` each.

    Raises:
        KeyError: for a property or language that is not listed.
    """
    if language == "zh_en":
        return _TEMPLATES[learnable_property, "zh"] + _TEMPLATES[learnable_property, "en"]
    return _TEMPLATES[learnable_property, language]


def plain_template(learnable_property: str, language: str = "en") -> str:
    """The one sentence that shows a concept by itself: what scores and overviews are generated from."""
    return _PLAIN[learnable_property, "en" if language == "en" else "zh"]


def generic_word(learnable_property: str, language: str = "en") -> str:
    """A word of the language that stands for any concept of this kind."""
    return (GENERIC_WORDS if language == "en" else _GENERIC_WORDS_ZH)[learnable_property]


def read_templates(path: str | Path) -> tuple[str, ...]:
    """Training sentences of a user's own: one a line, UTF-8; blank lines and lines that begin with `#` are skipped.

    The placeholder's place is `{}`, or `[name]` as in AUTOMATIC1111's files; `[filewords]` stands for the words of the
    picture's file name.

    Raises:
        SettingsError: the file cannot be read, holds no sentence, or one without a place for the placeholder.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"--template_file {path} cannot be read ({reason}); give a text file") from None
    sentences = []
    for number, line in enumerate(lines, 1):
        sentence = line.strip().replace("[name]", "{}")
        if not sentence or sentence.startswith("#"):
            continue
        if sentence.count("{}") != 1:
            raise SettingsError(
                f"--template_file {path}, line {number}: {sentence!r} must hold {{}} once, where the placeholder goes"
            )
        sentences.append(sentence)
    if not sentences:
        raise SettingsError(f"--template_file {path} holds no sentence; write one a line, such as: a photo of a {{}}")
    return tuple(sentences)
