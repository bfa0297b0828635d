"""A page that is one file: style, script, data and images are in it, and it asks nobody for anything.

Whatever comes from outside is data, in JSON without "<" and then in text nodes, or an image as a JPEG made here. A
Content-Security-Policy lets nothing run but the page's own script, and no address be asked for.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from textual_inversion.data.previews import jpeg
from textual_inversion.system import user_files
from textual_inversion.system.terminal_text import one_line

MOST_BYTES = 3_000_000  # of a page
_OF_IMAGES = 2_000_000  # bytes of JPEG, which take a third more in a page
# (longest side in pixels, quality), until all images fit.
_LADDER = ((320, 88), (256, 85), (224, 80), (192, 75), (160, 70), (128, 65), (96, 60), (64, 50))
_CSP = (
    "default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
)


def page(name: str, title: str, data: Mapping[str, Any], places: Mapping[str, str]) -> bytes:
    """The file of a page.

    Args:
        name: of its body and its script among the files beside this one.
        title: of the window.
        data: for the script.
        places: what stands in the body at `{{NAME}}`: markup made here, its texts escaped.
    """
    style, script = _part("page.css"), _part("page.js") + _part(f"{name}.js")
    body = _part(f"{name}_body.html")
    for place, markup in places.items():
        body = body.replace("{{" + place + "}}", markup)
    csp = _CSP.format(style=_hash(style), script=_hash(script))
    found = _part("page.html")
    parts = {"csp": csp, "title": escape(one_line(title)), "style": style, "body": body, "script": script}
    # In the order in which they stand, so that what is put in is not looked at again.
    made = []
    for place in ("csp", "title", "style", "body", "data", "script"):
        before, found = found.split("{{" + place + "}}", 1)
        made += [before, parts.get(place) or _json(data)]
    return "".join([*made, found]).encode("utf-8", "backslashreplace")


def _part(name: str) -> str:
    return user_files.read_text(Path(__file__).with_name(name), user_files.RECORD)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def packed(images: Sequence[Image.Image], most: int = _OF_IMAGES) -> list[str]:
    """Images as addresses that hold them, all as large as fits into `most` bytes together."""
    made: list[bytes] = []
    for longest, quality in _LADDER:
        made = [jpeg(image.convert("RGB"), longest, quality) for image in images]
        if sum(map(len, made)) <= most:
            break
    return ["data:image/jpeg;base64," + base64.b64encode(one).decode("ascii") for one in made]


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """At most so many of a list, evenly spaced, with the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)] if most > 1 else list(items[-most:])
