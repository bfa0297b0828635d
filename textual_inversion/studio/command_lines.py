"""From what was filled in to command lines: words for a process, and the same as a line that a user may copy.

The commands themselves check them: what they refuse is said in their own line, beside the field that it means.
"""

import importlib.util
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.cli import convert as convert_cli
from textual_inversion.cli import generation, train
from textual_inversion.settings.flag import Flag, all_flags
from textual_inversion.settings.generation import InferConfig
from textual_inversion.settings.train import TrainConfig
from textual_inversion.studio.runs import Run
from textual_inversion.system.errors import SettingsError, TextualInversionError
from textual_inversion.system.paths import ROOT, SCRIPTS, how_to_call

_FLAGS: dict[str, dict[str, Flag]] = {"train": all_flags(TrainConfig), "infer": all_flags(InferConfig)}
_CHECKS = {"train": train.parse, "infer": generation.parse_infer, "convert": convert_cli.parse}
_NAMED = re.compile(r"--(\w+)")
# What a run that goes on, or one that is forked, must not take from the command before.
_OF_ONE_START = (
    "resume_from_checkpoint",
    "allow_changed_settings",
    "output_dir",
    "push_to",
    "push_to_hub",
    "hub_model_id",
)


def arguments(command: str, values: Mapping[str, Any]) -> list[str]:
    """The arguments for the values of some flags; None and "" are left out, as is a switch that is off by default.

    Args:
        values: name -> a value, or a list of several.

    Raises:
        KeyError: there is no such flag.
    """
    words: list[str] = []
    for name, value in values.items():
        flag = _FLAGS[command][name]
        if value is None or value == "" or value == [] or value == ():
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--{name}=false")
        elif isinstance(value, (list, tuple)) and len(value) > 1:
            words += _several(name, [str(one) for one in value])
        else:
            one = value[0] if isinstance(value, (list, tuple)) else value
            words.append(f"--{name}={_text(one, flag)}")
    return words


def _several(name: str, values: list[str]) -> list[str]:
    """A flag with several values; one that begins like a flag would be taken for one."""
    if any(value.startswith("-") for value in values):
        raise SettingsError(f"--{name}: of several values none may begin with a hyphen; put a blank before it")
    return [f"--{name}", *values]


def _text(value: Any, flag: Flag) -> str:
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def check(command: str, words: Sequence[str]) -> Any:
    """The settings that a command makes of its arguments; raises what it would end with."""
    return _CHECKS[command](list(words))


def refusal(command: str, words: Sequence[str]) -> tuple[str, str] | None:
    """(name of the flag, the command's own line) where a command refuses its arguments; None where it takes them."""
    try:
        check(command, words)
    except TextualInversionError as error:
        return field_of(str(error)), str(error)
    return None


def field_of(line: str) -> str:
    """The flag that an error of a command means; "" where it names none."""
    found = _NAMED.search(line)
    return found[1] if found else ""


def process(command: str, words: Sequence[str]) -> list[str]:
    """The words that start a command as a process of its own."""
    script = ROOT / SCRIPTS[command]
    if not script.is_file():  # an installed package has a copy beside what finds it
        package = importlib.util.find_spec("textual_inversion.commands")
        script = Path(package.origin).with_name(Path(SCRIPTS[command]).name)
    return [sys.executable, "-u", str(script), *words]


def shown(command: str, words: Sequence[str]) -> str:
    """The command as a line for a POSIX shell."""
    return " ".join([how_to_call(SCRIPTS[command]), *map(shlex.quote, words)])


def words_of(argv: Sequence[str]) -> list[str]:
    """The arguments of a process that was started by `process`."""
    return list(argv[3:])


def without(words: Sequence[str], *names: str) -> list[str]:
    """Arguments without some flags and their values."""
    kept, is_dropped = [], False
    for word in words:
        if word.startswith("--"):
            is_dropped = word[2:].partition("=")[0] in names
        if not is_dropped:
            kept.append(word)
    return kept


def going_on(run: Run, **more: Any) -> list[str]:
    """The arguments that resume a run from its newest checkpoint.

    Raises:
        SettingsError: nothing tells with what it was begun.
    """
    added = {"output_dir": str(run.folder), "resume_from_checkpoint": "latest", **more}
    return [*_begun_with(run, added), *arguments("train", added)]


def forked(run: Run, folder: Path, changed: Mapping[str, Any], checkpoint: Path | None = None) -> list[str]:
    """The arguments of a run with other settings, from its beginning or from one of its checkpoints.

    Raises:
        SettingsError: nothing tells with what it was begun.
    """
    added: dict[str, Any] = {**changed, "output_dir": str(folder)}
    if checkpoint is not None:
        added |= {"resume_from_checkpoint": str(checkpoint), "allow_changed_settings": True}
    return [*_begun_with(run, added), *arguments("train", added)]


def _begun_with(run: Run, replaced: Mapping[str, Any]) -> list[str]:
    if run.job is not None:
        return without(words_of(run.job.argv), *_OF_ONE_START, *replaced)
    if run.configuration is None:
        raise SettingsError(f"{run.name} has no configuration beside it, so nothing tells with what it was begun")
    return [f"--config={run.configuration}"]
