"""Training prompts: the sentences a placeholder stands in while its rows are learned.

Textual Inversion (arXiv 2208.01618, section 4) trains on neutral sentences around the placeholder, in the manner of
CLIP's zero-shot prompts, so that the rows learn the concept and not one sentence. The sentences here are put together
from short word lists; each has exactly one `{}` where the placeholder goes.
"""

PROPERTIES = ("object", "style")
LANGUAGES = ("en", "zh", "zh_en")

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

_TEMPLATES = {
    ("object", "en"): _OBJECT_EN,
    ("style", "en"): _STYLE_EN,
    ("object", "zh"): _OBJECT_ZH,
    ("style", "zh"): _STYLE_ZH,
}

_PLAIN = {
    ("object", "en"): "a photo of a {}",
    ("style", "en"): "a picture in the style of {}",
    ("object", "zh"): "一张{}的照片",
    ("style", "zh"): "一幅{}风格的图片",
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
