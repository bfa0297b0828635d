"""Read the `run.json` beside an embedding without trusting it.

The folder of an embedding is copied as a whole, so its record deserves no more trust than the embedding. An entry with
another type than this program writes counts as missing. Unknown entries stay, and are never used.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual_inversion.settings.bounds import LONGEST_SIDE, side
from textual_inversion.settings.choices import PROPERTIES
from textual_inversion.settings.flag import Flag, values_of
from textual_inversion.settings.train import REUSED, TrainConfig
from textual_inversion.system.paths import is_possible_path

FILE_NAME = "run.json"
MOST_BYTES = 16 << 20  # the record of a million steps, measured every hundred, stays below 1 MiB
_Check = Callable[[Any], bool]


def read_record(folder: Path) -> dict[str, Any]:
    """The valid entries of the run.json of a folder; {} where there is none."""
    path = folder / FILE_NAME
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            return {}
        return valid_entries(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def valid_entries(record: Any) -> dict[str, Any]:
    """A record without the entries that have a type no run writes, or that could do harm."""
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
    """Whether a value is a text that can be a token, a path or a repository id."""
    return isinstance(value, str) and is_possible_path(value)


def _checked(entries: Mapping[str, Any], rules: Mapping[str, _Check]) -> dict[str, Any]:
    return {key: value for key, value in entries.items() if key not in rules or rules[key](value)}


def _is_name_or_names(value: Any) -> bool:
    """Whether a value is one name, or one for each concept, of which some may be unset."""
    return is_name(value) or (isinstance(value, list) and all(item is None or is_name(item) for item in value))


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LONGEST_SIDE


def _one_of(*values: str) -> _Check:
    return lambda value: isinstance(value, str) and value in values


def _is_property(value: Any) -> bool:
    return _is_name_or_names(value) and set(value if isinstance(value, list) else [value]) <= set(PROPERTIES)


_RECORD = {
    "base_model": is_name,
    "placeholder_token": _is_name_or_names,
    "initializer_token": _is_name_or_names,
    "learnable_property": _is_property,
}


def _check_of(flag: Flag) -> _Check:
    """The check whether a recorded value is one that the flag could have."""
    if flag.choices is not None:
        return _one_of(*flag.choices)
    if flag.type is side:
        return _is_side
    return _is_name_or_names if flag.nargs == "+" else is_name


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


_SWITCHES = {name for name, value in values_of(TrainConfig()).items() if isinstance(value, bool)}
_SETTINGS = {name: _is_switch if name in _SWITCHES else _check_of(flag) for name, flag in REUSED.items()}
# Files are written there, so a stranger's record may name only a folder that already exists.
_SETTINGS["cache_dir"] = lambda value: is_name(value) and Path(value).is_dir()
