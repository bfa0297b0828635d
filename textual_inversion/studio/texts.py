"""All that the page says in its own words, in English and in Chinese. Lines of the commands stay as they are.

`texts.json` is the table: name -> English, Chinese. A text may hold Markdown and places in braces; what is put into a
place is shown as it stands (`marked.code`).
"""

from pathlib import Path

from textual_inversion.system import user_files
from textual_inversion.system.checked_json import checked, parse_json

ENGLISH, CHINESE = LANGUAGES = ("en", "zh")
NAMES = {ENGLISH: "English", CHINESE: "中文"}
_FILE = Path(__file__).with_name("texts.json")
TEXTS: dict[str, list[str]] = checked(parse_json(user_files.read_bytes(_FILE, 1 << 20)), dict[str, list[str]])


def text(language: str, key: str) -> str:
    """One text in one language."""
    return TEXTS[key][LANGUAGES.index(language)]


def preferred(locale: str | None) -> str:
    """The language for what a browser prefers, such as "zh-CN"."""
    return CHINESE if (locale or "").lower().startswith("zh") else ENGLISH
