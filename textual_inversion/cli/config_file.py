"""Settings from a YAML file: `--config run.yaml`.

A configuration names flags without their dashes. It is converted into command-line arguments, which the command's own
parser reads before the arguments that the user typed. So bounds and choices are checked in one place, and the command
line wins.

    learning_rate: 0.002
    scale_lr: false                    a switch
    validation_prompt:                 a flag of several values
      - a photo of a <cat-toy>
    saving:                            the groups of `--help` are optional
      save_steps: 100

A configuration of another trainer is taken too, as far as it has a meaning here (`foreign_config`).
"""

import argparse
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from textual_inversion.cli import foreign_config, foreign_files
from textual_inversion.cli.addresses import file_at
from textual_inversion.formats.errors import printable
from textual_inversion.settings import other_names
from textual_inversion.system import user_files
from textual_inversion.system.addresses import address_of
from textual_inversion.system.checked_json import is_text
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import how_to_call

FLAG = "--config"
# Former titles of groups, which older files may use.
_EARLIER_TITLES = {"sentences", "watching"}
_ESCAPED = "a backslash in double quotes is an escape: write a path in single quotes, or with forward slashes"
_ESCAPES = frozenset("\0\a\b\t\n\v\f\r\x1b\x85\u2028\u2029")  # what YAML makes of a backslash and a letter
# Words of what the parser found, and what to do about it; the first that fits.
_FIXES = (
    ("escape", _ESCAPED),
    (r"'\t'", "indent with blanks, not with tabs"),
    ("mapping values are not allowed", "put a value that contains a colon and a blank in quotes"),
    ("cannot start any token", "put a value that begins with this character in quotes"),
    ("alias", "put a value that begins with * or & in quotes"),
    ("unexpected end of stream", "close the quotes"),
    ("expected ',' or", "close the bracket, or put a value that begins with one in quotes"),
)
_NULL = "tag:yaml.org,2002:null"


def with_files(
    arguments: Sequence[str], parser: argparse.ArgumentParser, note: Callable[[str], None] = lambda line: None
) -> list[str]:
    """The arguments of a command line, after those of every configuration file that it names.

    Args:
        note: called with a line about each configuration of another program.

    Raises:
        SettingsError: a file cannot be read, or has a setting that the parser refuses.
    """
    arguments, found = list(arguments), []
    for position, argument in enumerate(arguments):
        if argument == FLAG and position + 1 < len(arguments):
            found += arguments_of(arguments[position + 1], parser, note)
        elif argument.startswith(f"{FLAG}="):
            found += arguments_of(argument.partition("=")[2], parser, note)
    return found + arguments


def arguments_of(
    path: str | Path, parser: argparse.ArgumentParser, note: Callable[[str], None] = lambda line: None
) -> list[str]:
    """The settings of a configuration file, as command-line arguments.

    Args:
        note: called with a line about what was not taken over of another program's configuration.

    Raises:
        SettingsError: the file cannot be read or is not YAML, or a setting is unknown, repeated or refused.
    """
    path = file_at(str(path), FLAG)
    text = yaml_text(path)
    foreign = foreign_files.of_text(path, text)
    root = None if foreign else root_of(path, text)
    foreign = foreign or foreign_files.of_yaml(path, root)
    if foreign:
        arguments, line = foreign_config.understood(path, foreign, parser, partial(_of_another, parser))
        note(line)
        return arguments
    return _of_this_program(path, root, parser)


def _of_this_program(path: str | Path, root: Any, parser: argparse.ArgumentParser) -> list[str]:
    flags = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    arguments, seen = [], set()
    for key, value in _entries(root, path, flags, parser):
        location, name = _location(path, key), _name(key)
        if name in seen:
            raise SettingsError(f"{location}: {name} is set twice; keep one of them")
        seen.add(name)
        arguments += _checked(_arguments(flags[name], value, location), parser, location)
    return arguments


def _of_another(
    parser: argparse.ArgumentParser, action: argparse.Action, values: Sequence[str], location: str
) -> list[str]:
    """One setting of another program's configuration as arguments that the parser takes."""
    if len(values) > 1 and action.nargs not in ("+", "*"):
        raise SettingsError(f"{location}: {action.dest} takes one value, not a list")
    return _checked(_items(action.option_strings[-1], values, location), parser, location)


def _checked(arguments: list[str], parser: argparse.ArgumentParser, location: str) -> list[str]:
    try:
        argparse.ArgumentParser.parse_args(parser, arguments)
    except SettingsError as error:
        raise SettingsError(f"{location}: {_shortened(str(error))}") from None
    return arguments


def _shortened(message: str) -> str:
    """A message without the middle of a value that is very long; its end is the way out."""
    return message if len(message) <= 400 else f"{message[:120]} … {message[-120:]}"


def _name(key: Any) -> str:
    """The name that a key is; of a list or an object, which may hold itself a billion times, only its kind."""
    return key.value if isinstance(key.value, str) else "a nested value"


def _location(path: str | Path, node: Any) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def yaml_text(path: str | Path, flag: str = FLAG) -> str:
    """The text of a YAML file that `flag` names; raises SettingsError."""
    try:
        return user_files.read_text(path, user_files.SETTINGS)
    except OSError as error:
        raise SettingsError(f"{flag} {path} cannot be read ({error.strerror}); give a YAML file of flags") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{flag} {path} is not UTF-8 text; give a YAML file of flags") from None


def root_of(path: str | Path, text: str, flag: str = FLAG) -> Any:
    """The root node of a YAML file, or None for an empty one. Its scalars keep their text as written: `1e-4`, `no`.

    Raises:
        SettingsError: it is not YAML, or not a table of settings.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        location = f"{path}, line {mark.line + 1}" if mark else f"{flag} {path}"
        reason = str(getattr(error, "problem", None) or error).partition("\n")[0]
        fix = next((fix for words, fix in _FIXES if words in reason), "")
        raise SettingsError(f"{location}: this is not YAML ({reason}){fix and f'; {fix}'}") from None
    except RecursionError:
        raise SettingsError(f"{flag} {path} is nested too deeply; a configuration has two levels at most") from None
    except (ValueError, OverflowError):  # the parser makes a character of any number after a backslash
        raise SettingsError(f"{flag} {path} is not YAML (an escape is no character); {_ESCAPED}") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise SettingsError(f"{flag} {path} has no settings; write lines such as learning_rate: 0.001")
    return root


def _entries(
    root: Any, path: str | Path, flags: dict[str, argparse.Action], parser: argparse.ArgumentParser
) -> Iterator[tuple[Any, Any]]:
    """(key, value) nodes of every setting, with or without a group."""
    import yaml

    titles = {group.title.replace(" ", "_") for group in parser._action_groups if group._group_actions}
    titles |= _EARLIER_TITLES
    for key, value in root.value if root is not None else ():
        name, of_settings = _name(key), isinstance(value, yaml.MappingNode)
        if of_settings and name.replace(" ", "_") in titles:  # a group may have the name of a flag
            for inner_key, inner_value in value.value:
                if _name(inner_key) not in flags:
                    raise _unknown(inner_key, path, flags, parser)
                yield inner_key, inner_value
        elif name in flags:
            yield key, value
        else:
            raise _unknown(key, path, {*flags, *titles} if of_settings else flags, parser)


def _unknown(key: Any, path: str | Path, known: Iterable[str], parser: argparse.ArgumentParser) -> SettingsError:
    name = _name(key)
    answer = other_names.answer(parser.prog, name, set(known))
    if answer:
        raise SettingsError(f"{_location(path, key)}: {printable(name)} is not a setting of {parser.prog}; {answer}")
    near = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), list(known), n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"see {how_to_call(parser.prog)} --help"
    return SettingsError(f"{_location(path, key)}: {printable(name)} is not a setting of {parser.prog}; {hint}")


def _arguments(action: argparse.Action, value: Any, location: str) -> list[str]:
    """One setting as command-line arguments; a setting without a value is left out."""
    import yaml

    flag = action.option_strings[-1]
    if value.tag == _NULL:
        return []
    if getattr(action, "flag", None) and action.flag.is_path and any(map(_holds_escape, _scalars(value))):
        raise SettingsError(f"{location}: {action.dest} is a path with a control character; {_ESCAPED}")
    if any(isinstance(text := getattr(item, "value", None), str) and not is_text(text) for item in _scalars(value)):
        raise SettingsError(f"{location}: {action.dest} holds half of a character; write it without an escape")
    if isinstance(value, yaml.ScalarNode):
        return [f"{flag}={value.value}"]
    if not isinstance(value, yaml.SequenceNode) or not all(isinstance(item, yaml.ScalarNode) for item in value.value):
        raise SettingsError(f"{location}: {action.dest} takes plain values, not nested settings")
    if action.nargs not in ("+", "*"):
        raise SettingsError(f"{location}: {action.dest} takes one value, not a list")
    items = [item.value for item in value.value if item.tag != _NULL]
    if len(items) < max(1, len(value.value)):
        raise SettingsError(f"{location}: an item of {action.dest} is empty; fill it in or leave it out")
    return _items(flag, items, location)


def _items(flag: str, items: Sequence[str], location: str) -> list[str]:
    """A flag with its values."""
    if len(items) < 2:
        return [f"{flag}={item}" for item in items]
    dashed = next((item for item in items if re.match(r"-[^\d.\s]", item)), None)
    if dashed is not None:
        raise SettingsError(f"{location}: {dashed!r} would be read as a flag; start it with another character")
    return [flag, *items]


def _scalars(value: Any) -> list[Any]:
    return value.value if isinstance(value.value, list) else [value]


def _holds_escape(value: Any) -> bool:
    """Whether a value in double quotes holds what no path does: "D:\\train" is read as a tab and "rain"."""
    return getattr(value, "style", None) == '"' and not _ESCAPES.isdisjoint(value.value)


def free_folder(config: str | Path) -> str | None:
    """The output folder of a run that repeats another one without `--output_dir`: beside the first, with a number.

    Returns:
        For OUTPUT/config.yaml, the first free one of OUTPUT-2, OUTPUT-3, …; None if no run wrote to OUTPUT.
    """
    first = Path(config).expanduser().resolve().parent
    if not (first / "run.json").is_file() or address_of(first) is not None:
        return None
    number = 2
    # A folder without a record is free, even if it exists: another process of this run may just have made it.
    while (folder := first.with_name(f"{first.name}-{number}")).joinpath("run.json").exists():
        number += 1
    return str(folder)
