"""The `run.json` beside an embedding, read as what it is: a file from a stranger.

A folder of an embedding is copied whole, so its record is no more to be trusted than the embedding. What is not of the
type that this program writes counts as not there; unknown entries stay and are never looked at.
"""

import json
from pathlib import Path
from typing import Any

from textual_inversion.settings.choices import INTERPOLATIONS, LANGUAGES, PROPERTIES, RESIZE_MODES
from textual_inversion.system.paths import is_possible_path

FILE_NAME = "run.json"
MOST_BYTES = 16 << 20  # a run of a million steps measured every hundred keeps under one
_LONGEST_SIDE = 16_384  # pixels


def read_record(folder: Path) -> dict[str, Any]:
    """What the run.json of a folder says, as far as it makes sense; {} where there is none."""
    path = folder / FILE_NAME
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return {}
        return sound(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return {}


def sound(record: Any) -> dict[str, Any]:
    """A record without the entries that are of another type than a run writes, or that could harm."""
    if not isinstance(record, dict):
        return {}
    settings = record.get("settings")
    checked = _checked(record, _RECORD)
    if isinstance(settings, dict):
        checked["settings"] = _checked(settings, _SETTINGS)
    else:
        checked.pop("settings", None)
    return checked


def is_name(value: Any) -> bool:
    """A text that can be a word, a path or a hub's name."""
    return isinstance(value, str) and is_possible_path(value)


def _checked(entries: dict[str, Any], rules: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key not in rules or rules[key](value)}


def _is_name_or_names(value: Any) -> bool:
    """One text, or one for each concept, of which some may be unset."""
    return is_name(value) or (isinstance(value, list) and all(item is None or is_name(item) for item in value))


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LONGEST_SIDE


def _one_of(*values: str):
    return lambda value: value in values if isinstance(value, str) else False


def _is_kind(value: Any) -> bool:
    return _is_name_or_names(value) and set(value if isinstance(value, list) else [value]) <= set(PROPERTIES)


_RECORD = {
    "base_model": is_name,
    "placeholder_token": _is_name_or_names,
    "initializer_token": _is_name_or_names,
    "learnable_property": _is_kind,
}
_SETTINGS = {
    "tokenizer_name": is_name,
    "revision": is_name,
    "variant": is_name,
    # Where a stranger's record says: only into a folder that is there already.
    "cache_dir": lambda value: is_name(value) and Path(value).is_dir(),
    "train_data_dir": _is_name_or_names,
    "height": _is_side,
    "width": _is_side,
    "resize_mode": _one_of(*RESIZE_MODES),
    "interpolation": _one_of(*INTERPOLATIONS),
    "center_crop": lambda value: isinstance(value, bool),
    "language": _one_of(*LANGUAGES),
}
