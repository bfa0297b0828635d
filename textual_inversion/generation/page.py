"""`index.html`: the images of a run to look through in a browser, without a server and without a network.

The page is one file beside the images. What it knows of them is JSON in the page: each setting as the list of its
different values, and for each image the positions of its values in these lists, so that a hundred thousand images take
some megabytes. Texts from outside are data, in JSON without "<" and in text nodes, never markup; a Content-Security-
Policy lets nothing run but the page's own script.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from textual_inversion.generation.fact_arguments import after, argument, before
from textual_inversion.generation.labels import value_text
from textual_inversion.system import atomic, user_files

PAGE = "index.html"
_NOT_SHOWN = ("file", "key", "bytes", "score")
_CSP = (
    "default-src 'none'; img-src 'self' file:; style-src '{style}'; script-src '{script}'; base-uri 'none'; "
    "form-action 'none'"
)


def write_page(folder: Path, run: Mapping[str, Any]) -> Path:
    """Write the page of a run into the folder of its images, and return its path.

    Args:
        run: as in the manifest: `images`, each with `file`, `prompt`, `seed` and the other facts; `embeds`, the
            embedding files; `created`.

    Raises:
        OutputError: it cannot be written.
    """
    template = user_files.read_text(Path(__file__).with_name("page.html"), user_files.RECORD)
    style, script = (re.search(f"<{tag}>(.*?)</{tag}>", template, re.DOTALL)[1] for tag in ("style", "script"))
    page = template.replace("{{csp}}", _CSP.format(style=_hash(style), script=_hash(script)))
    # Last, and only once: what it holds is not looked at again.
    beginning, end = page.split("{{data}}")
    path = Path(folder) / PAGE
    atomic.write_bytes(path, (beginning + _json(_data(run)) + end).encode("utf-8", "backslashreplace"))
    return path


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _data(run: Mapping[str, Any]) -> dict[str, Any]:
    embeds = run.get("embeds") or []
    images = [image for image in run["images"] if PurePath(image["file"]).name == image["file"]]
    names = dict.fromkeys(name for image in images for name in image if name not in _NOT_SHOWN)
    names = [name for name in names if not name.endswith("sha256")]
    return {
        "created": run.get("created", ""),
        "files": [image["file"] for image in images],
        "settings": [_setting(name, images, embeds) for name in dict.fromkeys(["embeds", *names])],
        "scores": _scores(images),
        "before": before(),
        "after": after(),
    }


def _setting(name: str, images: Sequence[Mapping[str, Any]], embeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One setting: its values (numbers rising, others as they first occur), and where they stand for each image."""
    found = {_key(image.get(name)): image.get(name) for image in images}
    is_number = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found.values())
    keys = sorted(found, key=found.__getitem__) if is_number else list(found)
    numbers = {key: number for number, key in enumerate(keys)}
    values = [found[key] for key in keys]
    return {
        "name": name,
        "values": [_shown(name, value) for value in values],
        "arguments": [argument(name, value, embeds) for value in values],
        "of": [numbers[_key(image.get(name))] for image in images] if len(keys) > 1 else 0,
        "isNumber": is_number,
    }


def _shown(name: str, value: Any) -> str | bool | None:
    """A value as the page shows it; what is unset, on or off is said in the page's language."""
    if isinstance(value, bool) or value is None or value == "":
        return value if isinstance(value, bool) else None
    return value_text(name, value)


def _scores(images: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each kind of score that images have, with the score of each image or null."""
    own = [image.get("score") for image in images]
    scores = [one if isinstance(one, dict) else {"score": one} for one in own]
    names = dict.fromkeys(name for one in scores for name, value in one.items() if isinstance(value, (int, float)))
    return [{"name": name, "of": [one.get(name) for one in scores]} for name in names]


def _key(value: Any) -> Any:
    """What tells values apart; 1, 1.0 and True are different texts."""
    return json.dumps(value, sort_keys=True)
