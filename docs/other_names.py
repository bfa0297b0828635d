"""The page "Coming from other systems": its tables, from the table of names that the commands answer with.

The page holds a comment `<!-- other names -->`, which `conf.py` replaces by `markdown()`. Nothing here imports paddle.
"""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import flags  # noqa: E402

from textual_inversion.settings.other_names import FIXED, SYSTEMS, OtherName, rows  # noqa: E402

TITLES = {"train": "Names for training", "infer": "Names for generating images", "convert": "Names for converting"}


def markdown() -> str:
    """All tables: names and defaults by program, what differs in meaning, and what is not here."""
    return "\n".join([*map(_names, TITLES), _differences(), _absent()])


def _names(command: str) -> str:
    """A row for each flag here that has a name elsewhere, a column for each program."""
    kinds = ("train", "file") if command == "train" else (command,)
    own = [row for row in rows() if row.command in kinds and row.flag]
    systems = [system for system in SYSTEMS if any(row.system == system for row in own)]
    lines = [f"| `--{flag}` | {' | '.join(_cell(own, flag, system) for system in systems)} |"
             for flag in _in_order(command) if any(row.flag == flag for row in own)]  # fmt: skip
    head = [f"| Here | {' | '.join(systems)} |", "|---|" + "---|" * len(systems)]
    return "\n".join([f"## {TITLES[command]}", "", *head, *lines, ""])


def _in_order(command: str) -> list[str]:
    return [action.dest for actions in flags.groups(command).values() for action in actions]


def _cell(own: list[OtherName], flag: str, system: str) -> str:
    """The names of a flag in a program; the first default that is another one than here in parentheses."""
    there = [row for row in own if (row.flag, row.system) == (flag, system)]
    names = ", ".join(f"`{row.name}`" for row in there if row.name != FIXED)
    default = next((row.default for row in there if row.default), "")
    return " ".join(filter(None, [names, f"(`{default}`)" if default else ""])) or flags.NOTHING


def _differences() -> str:
    found: dict[tuple[str, str], list[OtherName]] = {}
    for row in rows():
        if row.flag and row.note:
            found.setdefault((row.flag, row.note), []).append(row)
    lines = [f"| `--{flag}` | {_there(own)} | {_as_text(note)} |" for (flag, note), own in sorted(found.items())]
    return "\n".join(["## What differs in meaning", "", "| Here | There | Difference |", "|---|---|---|", *lines, ""])


def _absent() -> str:
    found: dict[str, list[OtherName]] = {}
    for row in rows():
        if row.flag is None:
            found.setdefault(row.note, []).append(row)
    lines = [f"| {_there(own)} | {_as_text(note)} |" for note, own in sorted(found.items())]
    return "\n".join(["## What has no flag here", "", "| There | It |", "|---|---|", *lines, ""])


def _there(own: list[OtherName]) -> str:
    """Names by program, all of it as code: `kohya: weights`."""
    by_system = {system: [row.name for row in own if row.system == system] for system in SYSTEMS}
    return ", ".join(f"`{system}: {' '.join(dict.fromkeys(names))}`" for system, names in by_system.items() if names)


def _as_text(note: str) -> str:
    return re.sub(r"--\w+|\{\}|\[name\]|a \{\}", r"`\g<0>`", note).replace("|", r"\|")
