"""Settings from a YAML file: `--config run.yaml`.

A configuration names flags without their dashes. It is turned into the words of a command line, which the command's own
parser reads before the words that the user typed. So bounds and choices are checked in one place, and the command line
wins.

    learning_rate: 0.002
    scale_lr: false                    a switch
    validation_prompt:                 a flag of several values
      - a photo of a <cat-toy>
    saving:                            the groups of `--help` may be written out
      save_steps: 100
"""

import argparse
import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import how_to_call

FLAG = "--config"
# Titles of groups that have been renamed; files written for them are read as before.
_EARLIER_TITLES = {"sentences", "watching"}
_NULL = "tag:yaml.org,2002:null"


def with_files(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The words of a command line, behind those of every configuration file that it names.

    Raises:
        SettingsError: a file cannot be read, or holds what the parser would refuse.
    """
    words, found = list(words), []
    for position, word in enumerate(words):
        if word == FLAG and position + 1 < len(words):
            found += words_of(words[position + 1], parser)
        elif word.startswith(f"{FLAG}="):
            found += words_of(word.partition("=")[2], parser)
    return found + words


def words_of(path: str | Path, parser: argparse.ArgumentParser) -> list[str]:
    """What a configuration file says, as words of a command line.

    Raises:
        SettingsError: no such file, not YAML, an unknown or repeated setting, a value that the parser refuses.
    """
    flags = {action.dest: action for action in parser._actions if action.dest not in ("help", "config")}
    words, seen = [], set()
    for key, value in _entries(_root(path), path, flags, parser):
        place, name = _place(path, key), key.value
        if name in seen:
            raise SettingsError(f"{place}: {name} stands there twice; keep one of them")
        seen.add(name)
        own = _words(flags[name], value, place)
        try:
            argparse.ArgumentParser.parse_args(parser, own)
        except SettingsError as error:
            raise SettingsError(f"{place}: {error}") from None
        words += own
    return words


def _place(path: str | Path, node) -> str:
    return f"{path}, line {node.start_mark.line + 1}"


def _root(path: str | Path):
    """The file's node graph: scalars keep the text that was written, `1e-4` as well as `no`."""
    import yaml

    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SettingsError(f"{FLAG} {path} cannot be read ({error.strerror}); give a YAML file of flags") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{FLAG} {path} is no text in UTF-8; give a YAML file of flags") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}, line {mark.line + 1}" if mark else f"{FLAG} {path}"
        reason = str(getattr(error, "problem", None) or error).partition("\n")[0]
        raise SettingsError(f"{place}: this is not YAML ({reason})") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise SettingsError(f"{FLAG} {path} holds no settings; write lines such as learning_rate: 0.001")
    return root


def _entries(root, path, flags: dict, parser) -> Iterator[tuple]:
    """(key, value) of every setting, those in groups too."""
    import yaml

    titles = {group.title.replace(" ", "_") for group in parser._action_groups if group._group_actions}
    titles |= _EARLIER_TITLES
    for key, value in root.value if root is not None else ():
        name, of_settings = str(key.value), isinstance(value, yaml.MappingNode)
        if of_settings and name.replace(" ", "_") in titles:  # a group may share its name with a flag
            for inner_key, inner_value in value.value:
                if str(inner_key.value) not in flags:
                    raise _unknown(inner_key, path, flags, parser)
                yield inner_key, inner_value
        elif name in flags:
            yield key, value
        else:
            raise _unknown(key, path, {*flags, *titles} if of_settings else flags, parser)


def _unknown(key, path, known, parser) -> SettingsError:
    name = str(key.value)
    near = difflib.get_close_matches(name.lstrip("-").replace("-", "_"), list(known), n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else f"see {how_to_call(parser.prog)} --help"
    return SettingsError(f"{_place(path, key)}: {name} is not a setting of {parser.prog}; {hint}")


def _words(action: argparse.Action, value, place: str) -> list[str]:
    """One setting as words; an empty value leaves the flag out."""
    import yaml

    flag = action.option_strings[-1]
    if value.tag == _NULL:
        return []
    if isinstance(value, yaml.ScalarNode):
        return [f"{flag}={value.value}"]
    if not isinstance(value, yaml.SequenceNode) or not all(isinstance(item, yaml.ScalarNode) for item in value.value):
        raise SettingsError(f"{place}: {action.dest} takes plain values, not settings of its own")
    if action.nargs not in ("+", "*"):
        raise SettingsError(f"{place}: {action.dest} takes one value, not a list")
    items = [item.value for item in value.value if item.tag != _NULL]
    if len(items) < max(1, len(value.value)):
        raise SettingsError(f"{place}: an item of {action.dest} is empty; fill it in or leave it out")
    if len(items) < 2:
        return [f"{flag}={item}" for item in items]
    dashed = next((item for item in items if re.match(r"-[^\d.\s]", item)), None)
    if dashed is not None:
        raise SettingsError(f"{place}: {dashed!r} would be taken for a flag; let it begin with something else")
    return [flag, *items]


def free_folder(config: str | Path) -> str | None:
    """Where a run goes that repeats another one and was given no output folder: beside the first, with a number.

    Returns:
        OUTPUT-2 or the first free number for OUTPUT/config.yaml; None where `config` does not lie in a run's folder.
    """
    first = Path(config).expanduser().resolve().parent
    if not (first / "run.json").is_file():
        return None
    number = 2
    # A folder counts as taken by its record and not by being there: the processes of one run must choose alike.
    while (folder := first.with_name(f"{first.name}-{number}")).joinpath("run.json").exists():
        number += 1
    return str(folder)
