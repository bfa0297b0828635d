"""The space of a search from a YAML file: `sweep.py --space space.yaml`.

    learning_rate: {log_range: [0.001, 0.1]}
    adam_weight_decay: {choice: [0, 0.1, 1.0]}       or grid: the same list
    num_vectors: {range: [1, 8]}                     whole numbers, since the flag takes no others
    flip_p: {range: [0, 0.5], step: 0.25}
    lr_scheduler: [constant, cosine]                 short for choice

Every value is held against the flag's own range or choices before anything starts.
"""

import argparse
import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual_inversion.cli import config_file
from textual_inversion.cli.own_flags import refused_for_many
from textual_inversion.cli.train import PROGRAM, build_parser
from textual_inversion.cluster.space import MOST_TRIALS, Axis, Setting, Space, arguments
from textual_inversion.formats.errors import printable
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import how_to_call

FLAG = "--space"
_KINDS = ("choice", "grid", "range", "log_range")
# Flags that can be given, but must be the same in all trials.
_SAME_IN_ALL = {
    "config": "name its flags one by one",
    "placeholder_token": "prompts and scores name the concept by it",
}
_NULL = "tag:yaml.org,2002:null"
_FIX = "write flag: {choice: [a, b]}, {grid: [a, b]}, {range: [low, high]} or {log_range: [low, high]}"


def read_space(path: str | Path) -> tuple[Space, str]:
    """(space, the file's text) of a YAML file.

    Raises:
        SettingsError: it cannot be read, or `parse_space` refuses it.
    """
    text = config_file.yaml_text(path, FLAG)
    return parse_space(text, path), text


def parse_space(text: str, path: str | Path) -> Space:
    """The space that a YAML text describes.

    Args:
        path: named in messages.

    Raises:
        SettingsError: the text is not such YAML, a flag is unknown or twice there, or a range is empty or has values
            that its flag does not take.
    """
    root = config_file.root_of(path, text, FLAG)
    parser = build_parser()
    flags = {action.dest: action for action in parser._actions if action.dest != "help"}
    axes: list[Axis] = []
    for key, value in root.value if root is not None else ():
        where = f"{path}, line {key.start_mark.line + 1}"
        name = key.value if isinstance(key.value, str) else "a nested value"
        if name not in flags:
            near = difflib.get_close_matches(name.lstrip("-"), list(flags), n=1, cutoff=0.7)
            hint = f"did you mean {near[0]}?" if near else f"see {how_to_call(PROGRAM)} --help"
            raise SettingsError(f"{where}: {printable(name)} is not a flag of {PROGRAM}; {hint}")
        if reason := refused_for_many(name) or _SAME_IN_ALL.get(name):
            raise SettingsError(f"{where}: {name} cannot differ between trials: {reason}")
        if name in (axis.name for axis in axes):
            raise SettingsError(f"{where}: {name} is there twice; keep one of them")
        axis = _axis(flags[name], value, f"{where}: {name}")
        _check_values(parser, axis, f"{where}: {name}")
        axes.append(axis)
    if not axes:
        raise SettingsError(f"{FLAG} {path} names no flag; {_FIX}")
    return tuple(axes)


def _axis(action: argparse.Action, node: Any, where: str) -> Axis:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return Axis(action.dest, _values(node, where, action))
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{where} has one value, which is no space; {_FIX}, or give it as a flag")
    entries = {key.value if isinstance(key.value, str) else "?": value for key, value in node.value}
    kind = next((kind for kind in _KINDS if kind in entries), None)
    unknown = sorted(set(entries) - {kind, "step"})
    if kind is None or unknown:
        raise SettingsError(f"{where} is {printable(', '.join(unknown)) or 'empty'}, which is no space; {_FIX}")
    if kind in ("choice", "grid"):
        if "step" in entries:
            raise SettingsError(f"{where}: a step belongs to a range, not to a list; leave it out")
        return Axis(action.dest, _values(entries[kind], where, action))
    return _range(action, kind, entries, where)


def _values(node: Any, where: str, action: argparse.Action) -> tuple[Setting, ...]:
    """The values of a list; each of a flag that takes several may be a list itself."""
    import yaml

    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise SettingsError(f"{where} has an empty list of values; {_FIX}")
    if len(node.value) > MOST_TRIALS:
        raise SettingsError(f"{where} has {len(node.value)} values; at most {MOST_TRIALS} can be tried")
    found: list[Setting] = []
    for item in node.value:
        if isinstance(item, yaml.SequenceNode) and action.nargs == "+" and item.value:
            found.append(tuple(_word(inner, where) for inner in item.value))
        else:
            found.append(None if item.tag == _NULL else _word(item, where))
    if len(set(found)) < len(found):
        raise SettingsError(f"{where} has the same value twice; keep one of them")
    return tuple(found)


def _word(node: Any, where: str) -> str:
    import yaml

    if not isinstance(node, yaml.ScalarNode):
        raise SettingsError(f"{where} has a nested value; {_FIX}")
    if node.value.startswith("--"):
        raise SettingsError(f"{where}: {printable(node.value)!r} would be read as a flag; give another value")
    return node.value


def _range(action: argparse.Action, kind: str, entries: Mapping[str, Any], where: str) -> Axis:
    import yaml

    node = entries[kind]
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise SettingsError(f"{where}: a {kind} has two ends, such as {kind}: [0.001, 0.1]")
    low, high = (_number(end, where) for end in node.value)
    step = _number(entries["step"], where) if "step" in entries else None
    if not low < high:
        raise SettingsError(f"{where}: the range from {low:g} to {high:g} is empty; give the lower end first")
    if kind == "log_range" and low <= 0:
        raise SettingsError(f"{where}: a log_range that begins at {low:g} has no end; begin above 0, or take range")
    if kind == "log_range" and step is not None:
        raise SettingsError(f"{where}: a log_range has no step; leave it out, or take range")
    if step is not None and not 0 < step <= high - low:
        raise SettingsError(f"{where}: a step of {step:g} does not fit into the range from {low:g} to {high:g}")
    is_whole = _takes_whole_numbers_only(action)
    ends = (low, high) if step is None else (low, high, step)
    if is_whole and any(end != int(end) for end in ends):
        raise SettingsError(f"{where} takes whole numbers; give a range of such")
    if is_whole is None:
        raise SettingsError(f"{where} is not a number, so it has no range; give its values: {{choice: [a, b]}}")
    return Axis(action.dest, (), low, high, step, kind == "log_range", is_whole)


def _number(node: Any, where: str) -> float:
    text = node.value if isinstance(node.value, str) else "a list"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"{where}: {printable(text)!r} is not a number; a range has numbers as its ends")
    return value


def _takes_whole_numbers_only(action: argparse.Action) -> bool | None:
    """Whether a flag takes whole numbers only; None where it takes no numbers."""
    if action.type is None or action.choices:
        return None
    taken = []
    for text in ("1", "8", "16", "64", "75", "0.5", "1.5"):
        try:
            taken.append(action.type(text))
        except (argparse.ArgumentTypeError, ValueError):
            continue
    numbers = [value for value in taken if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if not numbers or len(numbers) < len(taken):
        return None
    return all(isinstance(value, int) for value in numbers)


def _check_values(parser: argparse.ArgumentParser, axis: Axis, where: str) -> None:
    """Hold every value, or both ends of a range, against the flag; raises SettingsError."""
    values = axis.values if axis.is_list else (axis.text(axis.low), axis.text(axis.high))
    for value in values:
        try:
            argparse.ArgumentParser.parse_args(parser, arguments({axis.name: value}))
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from None
