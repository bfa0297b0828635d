"""Text from outside inside Markdown: shown letter by letter, so that no link, image, colour or formula comes of it.

Streamlit reads labels, captions and messages as Markdown. What is typed by people or stands in files goes into such
places as code, whose content no reader of Markdown interprets.
"""

import re
from typing import Any

from textual_inversion.studio.texts import text
from textual_inversion.system.terminal_text import one_line

_TICKS = re.compile("`+")
_SIGNS = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&])")
_HARMLESS = re.compile(r"[^\W\d_](?:[^\W_]|[ -](?=[^\W_]))*")
_LONGEST = 400  # letters of one piece


class Safe(str):
    """A text of this program, such as a time, that holds no Markdown."""


def code(value: str, most: int = _LONGEST) -> str:
    """A text as code in Markdown, on one line and of at most `most` letters."""
    plain = one_line(value)
    plain = plain if len(plain) <= most else f"{plain[: most - 1]}…"
    if not plain:
        return "–"
    fence = "`" * (max(map(len, _TICKS.findall(plain)), default=0) + 1)
    pad = " " if plain.startswith(("`", " ")) or plain.endswith(("`", " ")) else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def name(value: str, most: int = 80) -> str:
    """A name of a folder or file: as it is where it holds only letters, digits, blanks and hyphens, else as code."""
    return value if len(value) <= most and _HARMLESS.fullmatch(value) else code(value, most)


def escaped(value: str) -> str:
    """A text of this program that is no Markdown, such as the help of a flag."""
    return _SIGNS.sub(r"\\\1", value)


def say(language: str, key: str, **values: Any) -> str:
    """A text of the page with values in its places, in Markdown; a text among them, but for `Safe`, becomes code."""
    is_code = {name: isinstance(value, str) and not isinstance(value, Safe) for name, value in values.items()}
    shown = {name: code(value) if is_code[name] else value for name, value in values.items()}
    return text(language, key).format(**shown)


def plain(language: str, key: str, **values: Any) -> str:
    """The same where no Markdown is read: alternative texts, options, what a field shows while it is empty."""
    shown = {name: one_line(value)[:_LONGEST] if isinstance(value, str) else value for name, value in values.items()}
    return text(language, key).format(**shown)
