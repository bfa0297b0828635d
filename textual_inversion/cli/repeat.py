"""Train a run again from its own `config.yaml`, which may be a stranger's.

Only settings that decide what is learned are taken over. Those that only watch are left out, since they do not change
it. A configuration that uploads, resumes or names an access token is refused. Whatever it names must be here, unless
the user lets the hubs be asked, and whoever calls can say what that is; nothing is written but into the folder that the
caller gives.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textual_inversion.cli.config_file import arguments_of
from textual_inversion.cli.train import build_parser
from textual_inversion.embeddings.run_record import is_place
from textual_inversion.formats.errors import printable
from textual_inversion.settings import config_yaml
from textual_inversion.settings.flag import Flag, all_flags, flags_of
from textual_inversion.settings.shared import ConfigFile
from textual_inversion.settings.train import TrainConfig
from textual_inversion.settings.train_run import HubSettings, SavingSettings, ValidationSettings
from textual_inversion.system.addresses import is_address
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.paths import ROOT

# Groups of flags that only watch, or say what is written; of them those are taken that decide what is learned.
_ONLY_WATCH = (ConfigFile, ValidationSettings, SavingSettings, HubSettings)
# When the loss on the fixed set is looked at, by which a run may end; the CLIP model that may choose an initializer.
_TAKEN_ALL_THE_SAME = {"eval_steps", "eval_samples", "clip_model"}
# Folders that are written to.
_LEFT_OUT = {"cache_dir", "cache_latents_dir"}
# What is switched off, so that nothing is drawn or written that nobody asked for.
_QUIET = (
    "--report_to=none",
    "--eval_steps=0",
    "--overview=false",
    "--only_save_embeds=true",
    "--save_steps=1000000000",
)
_PROGRAM = "from textual_inversion.commands import main; main()"
_OF_FOLDERS = ("train_data_dir", "mask_dir", "template_file")  # which no hub has
CONFIGURATIONS = (config_yaml.FILE_NAME, config_yaml.OTHER_NAME)


@dataclass(frozen=True)
class Reads:
    """A setting of a configuration that names what is read."""

    name: str
    value: str
    is_here: bool


@dataclass(frozen=True)
class Repetition:
    """A run as its configuration describes it.

    Attributes:
        config: the file.
        values: name -> value of the settings that are taken over.
        reads: those that name files, folders or repositories.
        left_out: names of settings that change nothing in what is learned.
    """

    config: Path
    values: Mapping[str, Any]
    reads: Sequence[Reads]
    left_out: Sequence[str]

    def arguments(self, **changes: Any) -> list[str]:
        """The command line that trains it again; `changes` are other values of some flags."""
        given = [*_QUIET]
        for name, value in {**self.values, **changes}.items():
            if isinstance(value, (list, tuple)):
                given += [f"--{name}", *map(str, value)] if len(value) != 1 else [f"--{name}={value[0]}"]
            else:
                given.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
        return given


def read_repetition(folder: Path, *, trusts: bool = False) -> Repetition:
    """What training a run again would take from its folder.

    Args:
        trusts: files that are not here may be asked for at the hubs.

    Raises:
        SettingsError: there is no configuration, it cannot be used, or it does what a repetition may not do.
    """
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder; give the --output_dir of a run")
    path = next((folder / name for name in reversed(CONFIGURATIONS) if (folder / name).is_file()), None)
    if path is None:
        raise SettingsError(f"{folder} holds no {config_yaml.FILE_NAME}, which says how the run was made")
    parser = build_parser()
    parser.fetches = False  # a stranger may have written the addresses
    arguments = arguments_of(path, parser)
    values, flags = vars(parser.parse_args(arguments)), all_flags(TrainConfig)
    taken, left_out = {}, []
    for name in sorted(parser.explicit(arguments)):
        if _is_refused(flags[name]):
            raise SettingsError(
                f"{path} sets {name}, which training a run again may not do; remove that line if the folder is yours"
            )
        if _is_taken(name, flags[name]):
            taken[name] = values[name]
        else:
            left_out.append(name)
    reads = [read for name, value in taken.items() if flags[name].is_path for read in _reads(path, name, value)]
    for missing in (one for one in reads if not one.is_here):
        if trusts and (missing.name not in _OF_FOLDERS or is_address(missing.value)):
            continue
        trust = "" if trusts else "; copy it here, or let the hubs be asked for it with --trust_record"
        raise SettingsError(f"{path} reads {printable(missing.value)} as {missing.name}, which is not here{trust}")
    return Repetition(path, taken, reads, left_out)


def _is_refused(flag: Flag) -> bool:
    """Whether a setting is no part of how a run is repeated: uploads, secrets, resuming, places of results."""
    return flag.is_secret or not flag.repeatable


def _is_taken(name: str, flag: Flag) -> bool:
    """Whether a setting can change what is learned, if only in the last bits."""
    if name in _LEFT_OUT:
        return False
    return (
        not any(name in flags_of(group) for group in _ONLY_WATCH) or flag.decides_result or name in _TAKEN_ALL_THE_SAME
    )


def _reads(path: Path, name: str, value: Any) -> list[Reads]:
    found = []
    for one in value if isinstance(value, (list, tuple)) else [value]:
        if not is_place(one):
            raise SettingsError(f"{path} holds {printable(str(one))} as {name}, which no run writes")
        found.append(Reads(name, str(one), os.path.exists(os.path.expanduser(one))))
    return found


def train_again(repetition: Repetition, folder: Path, **changes: Any) -> None:
    """Train a run again, in a process of its own, into a folder.

    Raises:
        OutputError: it failed; it has said why.
    """
    places = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [
        sys.executable,
        "-u",
        "-c",
        _PROGRAM,
        "train",
        *repetition.arguments(**changes),
        f"--output_dir={folder}",
    ]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(places)})
    if done.returncode:
        raise OutputError(
            f"training {repetition.config} again ended with status {done.returncode}; see the lines above"
        )
