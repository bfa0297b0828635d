"""The figures of a run, step by step, as `figures.jsonl` in its folder has them: one JSON object a line.

    {"step": 10, "train/loss": 0.1042, "train/learning_rate": 0.0249}

Names are those of the curves in the log. A line holds what was measured at one step, whatever that is; steps rise.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual_inversion.system import user_files
from textual_inversion.system.checked_json import UnusableJson, parse_json

FILE_NAME = "figures.jsonl"
MOST_BYTES = 16 << 20  # a million steps, looked at every ten, have 9 MB
_LONGEST_LINE = 1 << 16  # bytes
_LONGEST_NAME = 200  # letters
_MOST_CURVES = 200
_LARGEST_STEP = 10**12
Curve = list[tuple[int, float]]


def read_rows(path: Path) -> dict[int, dict[str, float]]:
    """Step -> name -> value of a figures file. Lines that are none are passed over: the last one may be cut off.

    Raises:
        OSError: the file is not there, or cannot be read.
    """
    rows: dict[int, dict[str, float]] = {}
    for line in user_files.read_bytes(path, MOST_BYTES).splitlines():
        entry = _entry(line)
        step = entry.get("step")
        if type(step) is int and 0 <= step <= _LARGEST_STEP:
            rows.setdefault(step, {}).update({name: float(v) for name, v in entry.items() if _is_figure(name, v)})
    return rows


def _entry(line: bytes) -> Mapping[str, Any]:
    if not line.strip() or len(line) > _LONGEST_LINE:
        return {}
    try:
        entry = parse_json(line)
    except UnusableJson:
        return {}
    return entry if isinstance(entry, dict) else {}


def _is_figure(name: str, value: Any) -> bool:
    if name == "step" or len(name) > _LONGEST_NAME or isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 1e300 and math.isfinite(value)


def read_curves(folder: Path) -> dict[str, Curve]:
    """Name -> (step, value) in the order of the steps, of all that a run's folder holds; {} where it holds none."""
    try:
        rows = read_rows(folder / FILE_NAME)
    except OSError:
        return {}
    curves: dict[str, Curve] = {}
    for step in sorted(rows):
        for name, value in rows[step].items():
            if name in curves or len(curves) < _MOST_CURVES:
                curves.setdefault(name, []).append((step, value))
    return curves
