"""`--preset fast face`: settings for a purpose or a card, from the files in `presets/`.

A preset is a configuration file with a reason beside each value. It is read as such a file is, and whatever the user
says, in a configuration or on the command line, wins over it.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence

from textual_inversion.cli import config_file
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import PRESET_FOLDER

FLAG = "--preset"
# Flags that say the same thing in two ways: a preset's gives way to the user's other one.
_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "resize_mode": ("center_crop",),
    "max_train_steps": ("num_train_epochs",),
}


def with_presets(
    arguments: Sequence[str], parser: argparse.ArgumentParser, note: Callable[[str], None] = lambda line: None
) -> list[str]:
    """The arguments of a command line, after what its presets set and it does not.

    Args:
        arguments: those of the configuration file included.
        note: called with a line about what the presets have set.

    Raises:
        SettingsError: two presets set a flag to different values, and the user to none.
    """
    names = getattr(argparse.ArgumentParser.parse_args(parser, list(arguments)), "preset", None)
    if not names:
        return list(arguments)
    given = _given(arguments, parser)
    made: dict[str, tuple[str, str]] = {}  # flag -> the preset that sets it, and its argument
    for preset in dict.fromkeys(names):
        for argument in config_file.arguments_of(PRESET_FOLDER / f"{preset}.yaml", parser):
            flag = argument.partition("=")[0].removeprefix("--")
            if flag in given or given.intersection(_INSTEAD.get(flag, ())):
                continue
            other, before = made.setdefault(flag, (preset, argument))
            if before != argument:
                raise _conflict(flag, {other: before, preset: argument})
    if made:
        settings = " ".join(argument.replace("=", " ", 1) for _, argument in made.values())
        note(f"preset {', '.join(dict.fromkeys(names))}: {settings}")
    return [argument for _, argument in made.values()] + list(arguments)


def _given(arguments: Sequence[str], parser: argparse.ArgumentParser) -> set[str]:
    """Names of the flags among arguments that the parser takes."""
    known = {flag: action.dest for action in parser._actions for flag in action.option_strings}
    return {known[name] for argument in arguments if (name := argument.partition("=")[0]) in known}


def _conflict(flag: str, by_preset: Mapping[str, str]) -> SettingsError:
    values = " and ".join(f"{preset} says {argument.partition('=')[2]}" for preset, argument in by_preset.items())
    return SettingsError(
        f"--preset {' '.join(by_preset)}: both set --{flag}, {values}; give --{flag} yourself, or one of the presets"
    )
