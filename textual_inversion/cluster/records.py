"""Records in folders of runs: read with care, since whoever has the folder may have changed them."""

from pathlib import Path
from typing import Any

from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json


def read_json(path: Path, schema: Any) -> Any:
    """The value in a JSON file; None where it is missing, or not of a schema's type."""
    try:
        return checked(parse_json(user_files.read_bytes(path, user_files.RECORD), allows_odd_names=True), schema)
    except (OSError, UnusableJson):
        return None


def number(value: Any) -> float | None:
    """A value that is a number; None for any other."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
