"""Settings from a YAML file, `--config run.yaml`, and the file with which a run can be repeated.

A configuration names flags without their dashes; it is turned into the words of a command line, which the command's own
parser reads before the words that the user typed. So ranges and choices are checked in one place, and what stands on
the command line wins.

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
from typing import Any

from textual_inversion.system.errors import SettingsError

FLAG = "--config"
FILE_NAME, OTHER_NAME = "config.yaml", "config-of-run.yaml"
_WRITTEN = "# Repeats a run:"
# What a repetition decides anew: where it writes, and what it sends into the world. The steps stand in for the epochs.
_NOT_REPEATED = {"output_dir", "config", "num_train_epochs", "help"}
_NOT_REPEATED |= {"resume_from_checkpoint", "allow_changed_settings"}
_NOT_REPEATED |= {"push_to_hub", "hub_token", "hub_model_id", "hub_whole_pipeline"}
_NOT_A_PATH = {"logging_dir"}  # counts from the output folder
_PATHS = re.compile(r"DIR|FILE|MODEL")
_NULL, _FLOW = "tag:yaml.org,2002:null", 10**6


def add_flag(parser: argparse.ArgumentParser) -> None:
    """--config, in a group of its own."""
    words = "a YAML file of flags without their dashes; the command line wins over it"
    parser.add_argument_group("configuration").add_argument(FLAG, metavar="FILE", help=words)


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
    hint = f"did you mean {near[0]}?" if near else f"see python {parser.prog} --help"
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


# ----------------------------------------------------------------------------------------------- what a run writes


def write(folder: Path, args: argparse.Namespace, parser: argparse.ArgumentParser, processes: int = 1) -> Path:
    """Write the configuration with which `--config` repeats a run, as `FILE_NAME`.

    A file of that name that no run wrote is the user's own and stays as it is; `OTHER_NAME` is taken then.

    It holds what the user gave, the demo's defaults and what was drawn (the seed), with paths that hold in any working
    directory; whatever stood at its default is shown in comments. Neither the output folder nor anything about the hub
    is repeated.

    Returns:
        The file.

    Raises:
        OutputError: it cannot be written.
    """
    from textual_inversion.system import atomic

    chosen = {*args.explicit, *getattr(args, "demo_defaults", ()), "seed", "max_train_steps"}
    lines = [f"{_WRITTEN} python {parser.prog} {FLAG} THIS_FILE"]
    lines += [f"# It ran in {processes} processes, which the launcher must start again."] if processes > 1 else []
    for group in parser._action_groups:
        names = [action.dest for action in group._group_actions if action.dest not in _NOT_REPEATED]
        actions = {action.dest: action for action in group._group_actions}
        given = [name for name in names if name in chosen and getattr(args, name) is not None]
        left = [name for name in names if name not in given]
        lines += ["", f"# {group.title}"] if names else []
        lines += [_line(name, _lasting(getattr(args, name), actions[name])) for name in given]
        lines += [f"# {line}" for name in left for line in _line(name, getattr(args, name)).splitlines()]
    path = folder / (FILE_NAME if _is_ours(folder / FILE_NAME) else OTHER_NAME)
    atomic.write_text(path, "\n".join(lines) + "\n")
    return path


def _is_ours(path: Path) -> bool:
    """Whether a run may write a file: there is none, or a run wrote it."""
    try:
        return path.read_bytes().startswith(_WRITTEN.encode())
    except FileNotFoundError:
        return True
    except OSError:
        return False


def is_path(action: argparse.Action) -> bool:
    """Whether a flag takes paths, or names that may be paths."""
    return bool(_PATHS.search(str(action.metavar)))


def _line(name: str, value: Any) -> str:
    import yaml

    return yaml.safe_dump({name: _plain(value)}, allow_unicode=True, width=_FLOW, default_flow_style=False).rstrip("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def _lasting(value: Any, action: argparse.Action) -> Any:
    """A value, its paths made absolute where they are there: hub names and folders still to come stay."""
    if isinstance(value, (list, tuple)):
        return [_lasting(item, action) for item in value]
    if action.dest in _NOT_A_PATH or not is_path(action) or not isinstance(value, (str, Path)):
        return value
    return str(Path(value).expanduser().resolve()) if Path(value).expanduser().exists() else str(value)


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
