"""Read the `run.json` beside an embedding without trusting it.

The folder of an embedding is copied as a whole, so its record deserves no more trust than the embedding. A record that
is there and cannot be used is an error, not a missing one: without it, another base model would be used in silence. An
entry that a run left unset counts as missing. Unknown entries stay, and are never used.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual_inversion.formats.errors import NotAnEmbedding, file_name, printable, quoted
from textual_inversion.formats.reader import read_whole
from textual_inversion.settings.bounds import LONGEST_SIDE, side
from textual_inversion.settings.choices import PROPERTIES
from textual_inversion.settings.flag import Flag, values_of
from textual_inversion.settings.train import REUSED, TrainConfig
from textual_inversion.system.checked_json import UnusableJson, is_text, parse_json
from textual_inversion.system.errors import EmbeddingFileError
from textual_inversion.system.paths import is_possible_path

FILE_NAME = "run.json"
MOST_BYTES = 4 << 20  # the record of a million steps, measured every hundred, stays below 1 MiB
WAY_OUT = "repair or remove it, or copy the embedding to a folder without it"
_Check = Callable[[Any], bool]


def read_record(folder: Path) -> dict[str, Any]:
    """The entries of the run.json of a folder; {} where there is none.

    Raises:
        EmbeddingFileError: it is there and cannot be used; see `valid_entries`.
    """
    path = folder / FILE_NAME
    if not os.path.lexists(path):  # a link to nowhere is there
        return {}
    try:
        return valid_entries(_parsed(path))
    except EmbeddingFileError as error:
        raise EmbeddingFileError(f"the record {file_name(path)} {error}; {WAY_OUT}") from error


def _parsed(path: Path) -> Any:
    try:
        content = bytes(read_whole(path, MOST_BYTES))
    except NotAnEmbedding as error:
        raise EmbeddingFileError(f"has more than {MOST_BYTES >> 20} MiB, far more than a run writes") from error
    except OSError as error:
        raise EmbeddingFileError(f"cannot be read: {error.strerror or error}") from error
    if not content.strip():
        raise EmbeddingFileError("is empty")
    try:
        return parse_json(content, allows_odd_names=True)
    except UnusableJson as error:
        raise EmbeddingFileError(str(error)) from error


def valid_entries(record: Any) -> dict[str, Any]:
    """A record without what a run left unset.

    Raises:
        EmbeddingFileError: it is no record, does not say which concepts it is about, or has an entry of a type that no
            run writes, or that could do harm.
    """
    if not isinstance(record, dict):
        raise EmbeddingFileError(f"holds {_kind(record)} instead of the settings of a run")
    if record.get("placeholder_token") is None:
        raise EmbeddingFileError("does not say which concepts it is about (placeholder_token)")
    checked = _checked(record, _RECORD)
    settings = record.get("settings")
    if settings is None:
        checked.pop("settings", None)
    elif isinstance(settings, dict):
        checked["settings"] = _checked(settings, _SETTINGS, "settings.")
    else:
        raise EmbeddingFileError(f"holds {_kind(settings)} under settings")
    return checked


def is_name(value: Any) -> bool:
    """Whether a value is a text that can be a token or a repository id."""
    return _is_path(value) and is_text(value)


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and is_possible_path(value)


def is_place(value: Any) -> bool:
    """Whether a value is the name of something that looking it up here cannot make a request of: no network path."""
    return _is_path(value) and not value.startswith(("//", "\\\\"))


def _checked(entries: Mapping[str, Any], rules: Mapping[str, _Check], within: str = "") -> dict[str, Any]:
    """The entries that are set; raises EmbeddingFileError for one that breaks its rule."""
    for key, value in entries.items():
        if key in rules and value is not None and not rules[key](value):
            shown = quoted(value) if isinstance(value, (str, int, float)) else _kind(value)
            raise EmbeddingFileError(f"holds {shown} as {within}{printable(key)}, which no run writes")
    kept = {key: value for key, value in entries.items() if key not in rules or value is not None}
    # Files are written there, so a stranger's record may name only a folder that already exists.
    if "cache_dir" in rules and "cache_dir" in kept and not os.path.isdir(kept["cache_dir"]):
        del kept["cache_dir"]
    return kept


def _kind(value: Any) -> str:
    """What a JSON value is, for messages."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")


def _is_name_or_names(value: Any) -> bool:
    """Whether a value is one name, or one for each concept, of which some may be unset."""
    return is_name(value) or (isinstance(value, list) and all(item is None or is_name(item) for item in value))


def _is_place_or_places(value: Any) -> bool:
    return all(item is None or is_place(item) for item in (value if isinstance(value, list) else [value]))


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LONGEST_SIDE


def _one_of(*values: str) -> _Check:
    return lambda value: isinstance(value, str) and value in values


def _is_property(value: Any) -> bool:
    return _is_name_or_names(value) and set(value if isinstance(value, list) else [value]) <= {*PROPERTIES, None}


_RECORD = {
    "base_model": is_place,
    "vae_sha256": lambda value: isinstance(value, str) and is_text(value),
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
    if flag.is_path:
        return _is_place_or_places if flag.nargs == "+" else is_place
    return lambda value: _is_number(flag, value) if type(value) is int else is_name(value) and _is_taken(flag, value)


def _is_number(flag: Flag, value: int) -> bool:
    """Whether the command line would give the flag this number."""
    try:
        return flag.type is not None and flag.type(str(value)) == value
    except argparse.ArgumentTypeError:
        return False


def _is_taken(flag: Flag, value: str) -> bool:
    """Whether the command line would take a text as the flag's value."""
    try:
        return flag.type is None or flag.type(value) is not None
    except argparse.ArgumentTypeError:
        return False


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


_SWITCHES = {name for name, value in values_of(TrainConfig()).items() if isinstance(value, bool)}
_SETTINGS = {name: _is_switch if name in _SWITCHES else _check_of(flag) for name, flag in REUSED.items()}
