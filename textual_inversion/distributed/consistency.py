"""Find ranks that differ before they train: each rank's program, settings and data are compared with rank 0's.

Every machine has its own copy of the program, its own packages, its own command line and its own data. Ranks average
their gradients whatever those came from, so a difference would show only as a worse embedding, or as ranks that wait
for one another at different points. The parts that are compared:

    the program    each of its source files, by a hash
    the packages   their versions, as far as results depend on them
    the flags      those that must be the same on all machines; the caller selects them
    the data       images, prompts and captions, masks; the base model and the embeddings to start from

The first three are compared as soon as the ranks have met, the data when it is known. The ranks exchange them at their
meeting point, and every rank reaches the same verdict.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual_inversion.distributed.meeting import MeetingPoint
from textual_inversion.settings.flag import all_flags, values_of
from textual_inversion.settings.train import TrainConfig
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT
from textual_inversion.system.provenance import versions

_MAX_NAMED = 5  # differences of a rank
_LONGEST_VALUE = 60  # characters of a value in a message
# Part of what is compared -> what the user can do.
_PROGRAM, _PACKAGES, _FLAGS, _DATA = "program", "packages", "flags", "data"
_WAYS_OUT = {
    _PROGRAM: "put the same version of the program on every machine",
    _PACKAGES: "install the same versions on every machine",
    _FLAGS: "start every node with the same flags",
    _DATA: "give every node the same images, captions, masks and models",
}


def of_program(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is known before any data is read: part -> name -> JSON value.

    Args:
        settings: what must be the same on all ranks, by the name that messages show, such as "--learning_rate".
    """
    flags = json.loads(json.dumps(settings, default=str))
    return {_PROGRAM: of_source(ROOT), _PACKAGES: versions(), _FLAGS: flags}


def settings_to_agree_on(config: TrainConfig) -> dict[str, Any]:
    """What must be the same on all ranks: the name that messages show -> value."""
    flags, values = all_flags(TrainConfig), values_of(config)
    settings = {f"--{name}": values[name] for name, flag in flags.items() if flag.same_everywhere}
    settings["--resume_from_checkpoint"] = config.saving.resume_from_checkpoint is not None  # rank 0 decides which
    return settings | {"the demo": config.demo, "the validation prompts": config.validation_prompts}


def of_source(root: Path) -> dict[str, str]:
    """Hashes of the program's source files, by their paths relative to `root`."""
    files = [root / "train_textual_inversion.py", *(root / "textual_inversion").rglob("*.py")]
    names = {path.relative_to(root).as_posix(): path for path in files if path.is_file()}
    return {name: hashlib.sha256(names[name].read_bytes()).hexdigest()[:16] for name in sorted(names)}


def agree_on_data(meeting_point: MeetingPoint | None, settings: dict[str, Any]) -> None:
    """Compare what this rank learns from with what rank 0 learns from. All ranks must call this.

    Args:
        meeting_point: of the ranks; None for a process that is alone, which has nothing to compare.
        settings: JSON values by name; for a file, its hash.

    Raises:
        SettingsError: the ranks differ; raised on every rank.
    """
    if meeting_point is not None:
        agree(meeting_point, {_DATA: settings})


def agree(meeting_point: MeetingPoint, facts: dict[str, dict[str, Any]]) -> None:
    """Compare the facts of all ranks with those of rank 0. All ranks must call this.

    Args:
        facts: part -> name -> JSON value.

    Raises:
        SettingsError: the ranks differ; raised on every rank, with the same message.
    """
    everyone = meeting_point.exchange(facts)
    found, ways_out = {}, set()  # differences -> the ranks that have them; the parts with differences
    for rank, (host, own) in enumerate(everyone):
        parts = {part: differences(part, everyone[0][1].get(part, {}), own.get(part, {})) for part in _WAYS_OUT}
        ways_out |= {part for part, names in parts.items() if names}
        names = [difference for part in parts.values() for difference in part]
        if names:
            more = [f"{len(names) - _MAX_NAMED} more"] if len(names) > _MAX_NAMED else []
            found.setdefault(", ".join(names[:_MAX_NAMED] + more), []).append(f"{rank} ({host})")
    if found:
        who = "; ".join(f"rank {', '.join(ranks)} in {names}" for names, ranks in found.items())
        ways = ", and ".join(way for part, way in _WAYS_OUT.items() if part in ways_out)
        raise SettingsError(f"the processes of this run differ from rank 0 ({everyone[0][0]}): {who}; {ways}")


def differences(part: str, first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names in a part whose values differ; [] where none do. Values are shown unless they are hashes.

    Args:
        part: key of `_WAYS_OUT`.
        first: values of rank 0, by name; a missing value counts as None.
        other: values of another rank.
    """
    found = []
    for name in sorted({*first, *other}):
        wanted, own = first.get(name), other.get(name)
        if wanted != own:
            is_plain = part == _PACKAGES or name.startswith("--") or name == "the global batch"
            found.append(f"{name} ({short(own)} instead of {short(wanted)})" if is_plain else name)
    return found


def short(value: Any) -> str:
    """A setting's value as a message shows it."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
