"""Command lines on which a command's own flags stand beside those of the training command."""

import difflib
from collections.abc import Sequence

from textual_inversion.cli import config_file
from textual_inversion.cli.parser import OneLineParser
from textual_inversion.cli.train import build_parser
from textual_inversion.settings.flag import all_flags
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import how_to_call

# Flags of the training command that make no sense for many runs, and what is to be done instead.
_NOT_HERE = {
    "output_dir": "every run gets a folder of its own",
    "resume_from_checkpoint": "runs go on from their own checkpoints; see --resume",
    "allow_changed_settings": "runs go on with their own settings",
    "push_to_hub": "upload what you have chosen afterwards",
    "push_to": "upload what you have chosen afterwards",
    "hub_model_id": "upload what you have chosen afterwards",
    "hub_whole_pipeline": "upload what you have chosen afterwards",
    "hub_token": "it would be seen in the list of processes: log in with huggingface-cli login, or set HF_TOKEN",
    "num_threads": "see --cpus_per_run",
}


def split(argv: Sequence[str], own: OneLineParser) -> tuple[list[str], list[str]]:
    """(own arguments, arguments of the training command) of a command line.

    Raises:
        SettingsError: a flag is of neither, or makes no sense for many runs.
    """
    of_training = set(all_flags(TrainConfig))
    mine, theirs, target = [], [], None
    for word in argv:
        name = word.partition("=")[0].removeprefix("--")
        if word.startswith("--"):
            is_own = f"--{name}" in own._option_string_actions
            if not is_own:
                _check(name, of_training, own)
            target = mine if is_own else theirs
        elif word == "-h":
            target = mine
        if target is None:
            raise SettingsError(f"{word} stands without a flag; see {how_to_call(own.prog)} --help")
        target.append(word)
    return mine, theirs


def _check(name: str, of_training: set[str], own: OneLineParser) -> None:
    if name in _NOT_HERE:
        raise SettingsError(f"--{name} cannot be given to {own.prog}: {_NOT_HERE[name]}")
    if name not in of_training:
        known = [*own._option_string_actions, *(f"--{one}" for one in of_training)]
        near = difflib.get_close_matches(f"--{name}", known, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}?" if near else f"see {how_to_call(own.prog)} --help"
        raise SettingsError(f"--{name} is a flag neither of {own.prog} nor of the training command; {hint}")


def with_configuration(theirs: Sequence[str]) -> list[str]:
    """The training command's arguments with those of the files that --config names in place of the files.

    So what a run gets does not depend on a file that may change while runs wait.

    Raises:
        SettingsError: a file cannot be read, or has a setting that is refused.
    """
    filled = config_file.with_files(theirs, build_parser())
    kept, skip = [], False
    for word in filled:
        if skip or word == config_file.FLAG or word.startswith(f"{config_file.FLAG}="):
            skip = word == config_file.FLAG
            continue
        kept.append(word)
    for word in kept:
        name = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and name in _NOT_HERE:
            raise SettingsError(f"--{name} of --config cannot be given to many runs: {_NOT_HERE[name]}")
    return kept


def refused_for_many(name: str) -> str | None:
    """Why a flag of the training command makes no sense for many runs; None where it does."""
    return _NOT_HERE.get(name)
