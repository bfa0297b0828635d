"""Write what the flags mean in Chinese for the page: `python docs/studio_help.py`, after the catalogues were changed.

The catalogues of the reference pages hold it; the page needs it where no catalogue is installed.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import flags  # noqa: E402
from babel.messages.pofile import read_po  # noqa: E402  (babel comes with sphinx)

from textual_inversion.studio.flag_help import CHINESE_FILE  # noqa: E402

_CATALOGUES = ROOT / "docs" / "locale" / "zh_CN" / "LC_MESSAGES" / "reference"


def texts() -> dict[str, dict[str, str]]:
    """Command -> flag -> what it means; "groups": title -> title."""
    found: dict[str, dict[str, str]] = {"groups": {}}
    for command in ("train", "infer"):
        with open(_CATALOGUES / f"{command}.po", "rb") as file:
            catalogue = {message.id: message.string for message in read_po(file)}
        found[command] = {}
        for title, actions in flags.groups(command).items():
            shown = f"{title[0].upper()}{title[1:]}"
            found["groups"][title] = catalogue[shown]
            for action in actions:
                translated = catalogue[flags.meaning(action)]
                found[command][action.dest] = re.sub(r"`([^`]*)`", r"\1", translated).replace(r"\|", "|")
    return found


def content() -> str:
    """The file."""
    return json.dumps(texts(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    CHINESE_FILE.write_text(content(), encoding="utf-8")
