"""What the command lines of `sweep.py` and `teach.py` have in common: many runs in one folder, which can go on."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual_inversion.cli.parser import OneLineParser
from textual_inversion.cluster.child import Child
from textual_inversion.settings.cluster import ClusterSettings
from textual_inversion.settings.flag import filled
from textual_inversion.system import user_files
from textual_inversion.system.addresses import for_child
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import in_shell

FORMAT = 1
# What runs need not make, and the seed of all; a flag of the user's own wins over these.
LEAN = ("--only_save_embeds", "--overview=false", "--checkpoints_total_limit=2", "--seed=42")
# Flags that may stand beside --resume: they change nothing of what comes out.
_BESIDE_RESUME = {"resume", "address", "parallel", "max_failures"}


def own_settings(words: Sequence[str], parser: OneLineParser, config: type) -> tuple[Any, set[str]]:
    """(settings of the command itself, names of those that were given); raises SettingsError."""
    return filled(config, vars(parser.parse_args(list(words)))), parser.explicit(list(words))


def check_beside_resume(resume: str | None, given: set[str], training: Sequence[str]) -> None:
    """Refuse flags that have no effect beside --resume; raises SettingsError."""
    if resume is not None and (training or given - _BESIDE_RESUME):
        other = next(iter(sorted(given - _BESIDE_RESUME)), None) or training[0].partition("=")[0].lstrip("-")
        raise SettingsError(
            f"--resume goes on with the settings of {resume}, so --{other} has no effect; leave it out, or begin anew "
            "in another --output_dir"
        )


def free_output(output_dir: str, record: str) -> Path:
    """The absolute path of an output folder; raises SettingsError where it holds a record already."""
    output = Path(output_dir).absolute()
    if (output / record).exists():
        raise SettingsError(
            f"{output_dir} holds {record} of an earlier start; go on with it by --resume {in_shell(output_dir)}, or "
            "choose another --output_dir"
        )
    return output


def child_of(cluster: ClusterSettings, output: Path) -> Child:
    """How trainings are started that write below a folder, from the folder in which the command stands."""
    processes = cluster.processes_per_run or max(1, cluster.gpus_per_run or 1)
    return Child(os.getcwd(), cluster.cpus_per_run, processes, place=for_child(output))


def with_those_of_now(cluster: ClusterSettings, now: ClusterSettings) -> ClusterSettings:
    """The cluster of a record with what was given beside --resume."""
    return replace(cluster, address=now.address, parallel=now.parallel, max_failures=now.max_failures)


def enter(folder: str) -> None:
    """Stand in the folder in which the first command stood: relative paths are of that. Where it is gone, stay."""
    if os.path.isdir(folder):
        os.chdir(folder)


def read_record(path: Path, schema: Any, resume: str) -> Any:
    """A record of the folder that --resume names; raises SettingsError."""
    try:
        return checked(parse_json(user_files.read_bytes(path, user_files.RECORD), allows_odd_names=True), schema)
    except OSError as error:
        raise SettingsError(
            f"--resume {resume} holds nothing that could go on ({path.name}: {error.strerror}); name the --output_dir "
            "of an earlier start"
        ) from None
    except UnusableJson as error:
        raise SettingsError(f"{path} {error}; restore it, or begin anew in another --output_dir") from None


def check_words(words: Any, record: Any, path: Path) -> None:
    """Refuse a record whose command line is not as this command writes it; raises SettingsError."""
    if (words.own, words.training) != (record["own"], record["training"]) or words.config.output.resume is not None:
        raise SettingsError(f"{path} is none that this command wrote; begin anew in another --output_dir")
