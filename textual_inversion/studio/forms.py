"""Fields for flags: what kind of field each has, and from what was typed to values for `command_lines.arguments`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textual_inversion.settings.flag import Flag, flags_of, groups_of
from textual_inversion.settings.generation import InferConfig
from textual_inversion.settings.train import TrainConfig

SWITCH, CHOICE, TEXT, SEVERAL = "switch", "choice", "text", "several"
_CONFIGS = {"train": TrainConfig, "infer": InferConfig}
# Flags that the page sets itself, or that would lead it elsewhere.
_NOT_OFFERED = {
    "config", "output_dir", "logging_dir", "resume_from_checkpoint", "allow_changed_settings", "hub_token",
    "push_to_hub", "push_to", "hub_model_id", "hub_whole_pipeline", "merge", "yes", "report_to", "trust_record",
}  # fmt: skip
# Flags whose values name a file or folder, which must be among those that the page may use.
PATH_METAVARS = ("DIR", "FILE", "MODEL", "FILE[:SCALE]")


@dataclass(frozen=True)
class Field:
    """A field for a flag.

    Attributes:
        kind: one of those above.
        default: what the flag is where the field stays empty, as text.
    """

    name: str
    kind: str
    flag: Flag
    default: str = ""


def flags(command: str) -> dict[str, Flag]:
    """Name -> flag of a command."""
    return {name: flag for _, group in groups_of(_CONFIGS[command]) for name, flag in flags_of(group).items()}


def fields(command: str, without: Mapping[str, Any] | set[str] = frozenset()) -> dict[str, list[Field]]:
    """The fields for the flags of a command by their group, but for those that the page sets itself.

    Args:
        without: names of flags that have a field elsewhere.
    """
    found: dict[str, list[Field]] = {}
    for _, group in groups_of(_CONFIGS[command]):
        defaults = group()
        for name, flag in flags_of(group).items():
            if name in _NOT_OFFERED or name in without or flag.is_secret:
                continue
            found.setdefault(group.title, []).append(Field(name, _kind(flag, getattr(defaults, name)), flag,
                                                           shown(getattr(defaults, name))))  # fmt: skip
    return found


def _kind(flag: Flag, default: Any) -> str:
    if isinstance(default, bool):
        return SWITCH
    if flag.choices and flag.nargs != "+":
        return CHOICE
    return SEVERAL if flag.nargs == "+" else TEXT


def shown(value: Any) -> str:
    """A value as a field holds it; "" for what is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return " ".join(_quoted(shown(one)) for one in value)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word and '"' not in word else word


def typed(field: Field, content: Any) -> Any:
    """The value for what a field holds; None where it is empty."""
    if content in (None, ""):
        return None
    return several(content) if field.kind == SEVERAL and isinstance(content, str) else content


def several(content: str) -> list[str]:
    """The values that a line holds: separated by blanks, those with blanks in quotes."""
    try:
        reader = shlex.shlex(content, posix=True, punctuation_chars=False)
        reader.whitespace_split, reader.commenters, reader.escape = True, "", ""
        reader.quotes = '"'
        return list(reader)
    except ValueError:  # a quote that nothing closes
        return content.split()


def changed(run_settings: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are not what a run was made with, for a fork of it."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and shown(value) != shown(run_settings.get(name))
    }


def paths_in(command: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(flag, path) of all values that name a file or a folder."""
    known, found = flags(command), []
    for name, value in values.items():
        if known[name].metavar in PATH_METAVARS and value is not None:
            found += [(name, str(one)) for one in (value if isinstance(value, (list, tuple)) else [value])]
    return found
