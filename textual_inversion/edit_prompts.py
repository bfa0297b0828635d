"""Prompts that put a learned word to use: in new scenes and media for an object, on new subjects for a style.

`infer.py` shows a concept off with them, and scores measure with them how well a concept can still be edited
(arXiv 2208.01618, section 5: background changes, style changes, compositions). Each has exactly one `{}`.
"""

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
}

# A few of them, enough for a contact sheet that fits on a screen.
_SHOWN = {"object": (0, 1, 3, 5, 6), "style": (0, 2, 3, 4, 5)}


def showcase(words: dict[str, str], plain: dict[str, str]) -> list[str]:
    """Prompts that show learned words off.

    Args:
        words: learned word -> "object" or "style".
        plain: "object" and "style" -> the sentence that shows a concept by itself, with one `{}`.

    Returns:
        Each word by itself and in a few edits; where there are objects and styles, each object in each style too.
    """
    prompts = []
    for word, kind in words.items():
        prompts += [template.format(word) for template in (plain[kind], *(EDITS[kind][i] for i in _SHOWN[kind]))]
    objects = [word for word, kind in words.items() if kind == "object"]
    styles = [word for word, kind in words.items() if kind == "style"]
    return prompts + [f"a {thing} in the style of {style}" for thing in objects for style in styles]


def without_word(template: str) -> str:
    """A prompt's text with the word left out, as the paper does: "a photo of a on the beach"."""
    return " ".join(template.replace("{}", " ").split())
