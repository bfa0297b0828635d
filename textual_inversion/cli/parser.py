"""The parser of every command, made from the declared settings, with error messages of one line.

Nothing here imports paddle, so `--help` and refused arguments answer at once.
"""

import argparse
import contextlib
import contextvars
import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from textual_inversion.cli import addresses, config_file, presets
from textual_inversion.settings import other_names
from textual_inversion.settings.bounds import truth
from textual_inversion.settings.flag import Flag, flags_of, groups_of
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.home import home_folder
from textual_inversion.system.paths import ROOT, how_to_call, is_possible_path, leads_in_circles

_asks_nobody = contextvars.ContextVar("asks nobody", default=False)


@contextlib.contextmanager
def asking_nobody() -> Iterator[None]:
    """Addresses of object storage stay as they are inside the block, for a command line that is for another machine."""
    token = _asks_nobody.set(True)
    try:
        yield
    finally:
        _asks_nobody.reset(token)


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser that raises SettingsError, and suggests the right name for a mistyped flag.

    If it has a flag --config, the settings of that file are read as if they came before the other arguments;
    those of a flag --preset before both.
    A switch (`store_true`) can be switched off again: `--overview false`.

    Attributes:
        notes: what is to be said of the configuration files that were read last, in lines.
        fetches: whether what stands for an address of object storage takes its place in a value.
    """

    fetches = True

    def __init__(self, **settings: Any):
        settings.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)
        self.register("action", "store_true", Switch)
        self.notes: list[str] = []

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the configuration file that a command line names, then the command line; raises SettingsError."""
        arguments = sys.argv[1:] if args is None else list(args)
        if config_file.FLAG in self._option_string_actions:
            self.notes.clear()
            arguments = config_file.with_files(arguments, self, self.notes.append)
        if presets.FLAG in self._option_string_actions:
            arguments = presets.with_presets(arguments, self, self.notes.append)
        self._check_characters(arguments)
        parsed = super().parse_args(arguments, namespace)
        for action in self._actions:
            if getattr(action, "flag", None) and action.flag.is_path and hasattr(parsed, action.dest):
                setattr(parsed, action.dest, _checked_path(action, getattr(parsed, action.dest)))
        addresses.with_folders(self._actions, parsed, fetches=self.fetches and not _asks_nobody.get())
        return parsed

    def _check_characters(self, arguments: Sequence[str]) -> None:
        """Refuse characters that neither a record nor a file system takes; raises SettingsError."""
        # To which an argument belongs: at first, to what stands without a flag.
        action = next((one for one in self._actions if not one.option_strings), None)
        for argument in arguments:
            if "\0" in argument:
                raise SettingsError(f"{argument.partition(chr(0))[0]} is followed by a NUL character; remove it")
            action = self._option_string_actions.get(argument.partition("=")[0], action)
            try:
                argument.encode("utf-8")
            except UnicodeEncodeError:
                shown = argument.encode("utf-8", "replace").decode("utf-8")
                if action is not None and shown.partition("=")[0] not in action.option_strings:
                    shown = f"{_shown_name(action)} {shown}"
                is_path = action is not None and getattr(action, "flag", None) and action.flag.is_path
                fix = "rename the file or folder" if is_path else "save the script, or set the terminal, as UTF-8"
                raise SettingsError(f"{shown} has bytes that are not UTF-8; {fix}") from None

    def error(self, message: str) -> NoReturn:
        """Raise SettingsError instead of printing the usage and exiting."""
        unknown = re.match(r"unrecognized arguments: (--[\w.-]+)", message)
        if unknown:
            raise SettingsError(f"{unknown[1]} is not a flag of {self.prog}; {self._hint(unknown[1])}")
        raise SettingsError(f"{message.removeprefix('argument ')}; see {how_to_call(self.prog)} --help")

    def _hint(self, given: str) -> str:
        """What to do about a flag that is none: what another program means by it, or the flag with the nearest name."""
        flags = [flag for action in self._actions for flag in action.option_strings]
        answer = other_names.answer(self.prog, given, {flag.lstrip("-") for flag in flags})
        if answer:
            return answer
        near = difflib.get_close_matches(given, flags, n=1, cutoff=0.75)
        return f"did you mean {near[0]}?" if near else f"see {how_to_call(self.prog)} --help"

    def explicit(self, argv: list[str] | None) -> set[str]:
        """Names of the settings on the command line and in the configuration file that it names."""
        defaults = {action: action.default for action in self._actions}
        for action in self._actions:
            action.default = argparse.SUPPRESS
        fetches, self.fetches = self.fetches, False  # only names are asked for
        given = set(vars(self.parse_args(argv)))
        self.fetches = fetches
        for action, default in defaults.items():
            action.default = default
        return given


def parser_of(config: type, *, prog: str, description: str) -> OneLineParser:
    """The parser of a command.

    Args:
        config: its configuration class, whose fields are groups of flags.
    """
    parser = OneLineParser(prog=prog, description=description)
    for _, settings in groups_of(config):
        group = parser.add_argument_group(settings.title)
        defaults = settings()
        for name, flag in flags_of(settings).items():
            given = name if flag.is_positional else f"--{name}"
            action = group.add_argument(given, **_argument(flag, getattr(defaults, name)))
            action.flag = flag
    return parser


def _argument(flag: Flag, default: Any) -> dict[str, Any]:
    """The arguments of `add_argument` for a flag."""
    if isinstance(default, bool):
        return {"action": "store_true", "help": flag.help, "default": default}
    options = {name: getattr(flag, name) for name in ("type", "choices", "metavar", "nargs", "const")}
    default = list(default) if isinstance(default, tuple) else default
    if flag.is_positional:
        default = None  # argparse demands what has none
    return {"help": flag.help, "default": default} | {name: v for name, v in options.items() if v is not None}


def _shown_name(action: argparse.Action) -> str:
    return action.option_strings[-1] if action.option_strings else str(action.metavar)


def _checked_path(action: argparse.Action, value: Any) -> Any:
    """The value of a path flag, with the home folder in place of a leading `~`.

    A shell replaces `~` in `--flag ~/x`, but neither in `--flag=~/x` nor in quotes, and a YAML file has no shell.

    Raises:
        SettingsError: a path is empty, as from an unset shell variable, or too long.
    """
    if isinstance(value, list):
        return [_checked_path(action, one) for one in value]
    if not isinstance(value, str):
        return value
    name, path = _shown_name(action), os.path.expanduser(value)
    if value.partition("/")[0] == "~" and home_folder() is None:
        raise SettingsError(f"{name} {value}: there is no home folder here; set HOME, or give the whole path")
    if path == "":
        raise SettingsError(f"{name} is empty (a shell variable that is not set?); give it a value or leave it out")
    if not is_possible_path(path):
        raise SettingsError(f"{name}: {path[:80]}… is longer than a name can be; shorten it")
    if leads_in_circles(path):
        raise SettingsError(f"{name} {path}: its symbolic links lead in circles; give another path")
    return path


class Switch(argparse.Action):
    """`--name` switches on; `--name false` switches off, even what a configuration file has switched on."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, default: bool = False, help: str | None = None, **_: Any
    ):
        super().__init__(option_strings, dest, nargs="?", const=True, default=default, type=truth, help=help,
                         metavar="false")  # fmt: skip

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store the value."""
        setattr(namespace, self.dest, values)


def demo_defaults() -> dict[str, Any]:
    """The demo's defaults (demo/defaults.yaml): flag name -> value."""
    import yaml

    return yaml.safe_load((ROOT / "demo" / "defaults.yaml").read_text(encoding="utf-8"))
