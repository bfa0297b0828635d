"""Building blocks of the commands' command lines: value ranges, and errors that fit on one line.

Nothing here imports paddle, so that `--help` and refused arguments answer at once.
"""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Sequence

from textual_inversion.cli import config_file
from textual_inversion.settings.bounds import truth
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT, is_possible_path


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose refusals are `SettingsError`s, with a suggestion for a mistyped flag.

    Where it has a flag --config, the file's settings count as if they stood before the words of the command line. A
    switch (`store_true`) may be switched off again: `--overview false`.
    """

    def __init__(self, **settings):
        settings.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)
        self.register("action", "store_true", Switch)

    def parse_args(self, args: Sequence[str] | None = None, namespace=None):
        """Parse a command line, and before it the configuration file that it names."""
        words = sys.argv[1:] if args is None else list(args)
        if config_file.FLAG in self._option_string_actions:
            words = config_file.with_files(words, self)
        for word in words:
            _check_letters(word)
        parsed = super().parse_args(words, namespace)
        for action in self._actions:
            _check_path(action, getattr(parsed, action.dest, None))
        return parsed

    def error(self, message: str):
        """Raise instead of printing the usage and leaving."""
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            near = difflib.get_close_matches(unknown[1], flags, n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else f"see python {self.prog} --help"
            raise SettingsError(f"{unknown[1]} is not a flag of {self.prog}; {hint}")
        raise SettingsError(f"{message.removeprefix('argument ')}; see python {self.prog} --help")

    def explicit(self, argv: list[str] | None) -> set[str]:
        """Names of the settings that stand on the command line itself or in the configuration that it names."""
        defaults = {action: action.default for action in self._actions}
        for action in self._actions:
            action.default = argparse.SUPPRESS
        given = set(vars(self.parse_args(argv)))
        for action, default in defaults.items():
            action.default = default
        return given


def _check_letters(word: str) -> None:
    """Refuse what neither a record nor a file system could take; raises SettingsError."""
    if "\0" in word:
        raise SettingsError(f"{word.partition(chr(0))[0]} is followed by a NUL character; take it out")
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        shown = word.encode("utf-8", "replace").decode("utf-8")
        raise SettingsError(f"{shown} holds bytes that are not UTF-8; rename the file or folder") from None


def _check_path(action: argparse.Action, value) -> None:
    """Refuse a path that cannot be one: empty, as an unset shell variable leaves it, or longer than any."""
    if not config_file.is_path(action):
        return
    paths = value if isinstance(value, list) else [value]
    for path in (os.fspath(path) for path in paths if path is not None):
        if path == "":
            flag = action.option_strings[-1]
            raise SettingsError(f"{flag} is empty (a shell variable that is not set?); give it a value or leave it out")
        if not is_possible_path(path):
            raise SettingsError(f"{action.option_strings[-1]}: {path[:80]}… is longer than a name can be; shorten it")


class Switch(argparse.Action):
    """`--name` switches on; `--name false` switches off what a configuration file has switched on."""

    def __init__(self, option_strings, dest, default=False, help=None, **_):
        super().__init__(option_strings, dest, nargs="?", const=True, default=default, type=truth, help=help,
                         metavar="false")  # fmt: skip

    def __call__(self, parser, namespace, values, option_string=None):
        """Store the value."""
        setattr(namespace, self.dest, values)


def _variant(text: str) -> str:
    if not re.fullmatch(r"\w[\w-]*", text):
        raise argparse.ArgumentTypeError(f"must be a word of file names such as fp16, not {text}")
    return text


def add_source_flags(flag: Callable) -> None:
    """Which of a hub's files a base model is made of, and where they are kept; `flag` adds an argument to a group."""
    flag("--revision", metavar="NAME", help="branch, tag or commit of the base model's repository on Hugging Face")
    flag(
        "--variant",
        type=_variant,
        metavar="NAME",
        help="weights to prefer, such as fp16; used in the precision of --mixed_precision all the same",
    )
    flag("--cache_dir", metavar="DIR", help="where downloads are kept; unset: the hubs' own places")


def source_of(args) -> dict[str, str | None]:
    """The arguments of `hub.resolve` and `models.load_base_model` that these flags and --hub_token stand for."""
    return {
        "revision": args.revision,
        "variant": args.variant,
        "cache_dir": args.cache_dir,
        "token": args.hub_token,
    }


def demo_defaults() -> dict:
    """The demo's defaults (demo/defaults.yaml): flag name -> value."""
    import yaml

    return yaml.safe_load((ROOT / "demo" / "defaults.yaml").read_text(encoding="utf-8"))
