"""The state of a run in `OUTPUT/checkpoint-N/`: written whole, verified when it is read, rotated.

    state.safetensors   tensors: vectors, state of the optimizer, vectors of the best step
    checkpoint.json     step, settings, figures so far
    SHA256SUMS          check sums of both, as `sha256sum --check` reads them

Nothing in it is pickled. A folder may hold checkpoints of an earlier run or of a branch that was left, so the latest is
the one that was written last, by a number that counts on, and not the one with the most steps.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import NotRequired, TypedDict

from textual_inversion.formats.safetensors_file import read_safetensors, safetensors_bytes
from textual_inversion.settings.choices import LATEST
from textual_inversion.system import atomic, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, finite_number, parse_json, whole_number
from textual_inversion.system.errors import CheckpointError, EmbeddingFileError
from textual_inversion.system.paths import in_shell
from textual_inversion.system.written_files import CHECKPOINT, is_own, of_kind

STATE_FILE, FACTS_FILE, SUMS_FILE = "state.safetensors", "checkpoint.json", "SHA256SUMS"
_FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d+)")
# The most bytes of each file: a vector of the widest text encoders takes 41 kB with all that an optimizer keeps of it.
_MOST_BYTES = {STATE_FILE: 1 << 29, FACTS_FILE: 16 << 20, SUMS_FILE: 4096}
_MOST_STEPS = 10**12
_Count = whole_number(0, _MOST_STEPS)


class BestFigures(TypedDict):
    """What is known of the best step so far: how it is judged, and the scores of all steps that were."""

    by: str
    scores: dict[str, float]
    step: NotRequired[_Count]
    score: NotRequired[finite_number()]


class Figures(TypedDict, total=False):
    """The figures that a resumed run continues; others are measured at its end."""

    skipped_steps: _Count
    fixed_set_loss: dict[str, float]
    fixed_set_samples: dict[str, list[float]]
    fixed_set_bands: dict[str, list[float]]
    image_losses: dict[str, list[float]]
    best: BestFigures


class Resumption(TypedDict):
    """After which step a run was resumed before, and what had changed then."""

    step: _Count
    changed: list[str]


Fingerprint = TypedDict("Fingerprint", {"--seed": whole_number(0, 2**64 - 1)})


class Facts(TypedDict):
    """What a resumed run takes from a checkpoint besides tensors."""

    step: _Count
    loss: float  # a step whose loss is NaN is skipped, and may be saved
    learning_rate: finite_number()
    settings: Fingerprint
    figures: Figures
    resumed: list[Resumption]


class _Written(TypedDict):
    serial: _Count


@dataclass(frozen=True)
class Checkpoint:
    """The state after an optimizer step.

    Attributes:
        step: optimizer steps that were done.
        tensors: name -> float32 array.
        facts: whatever else the next step needs, as JSON holds it; `Facts` says which are looked at.
        folder: where it was read from.
    """

    step: int
    tensors: dict[str, np.ndarray]
    facts: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None


def save(output: Path, checkpoint: Checkpoint, keep: int | None = None) -> Path:
    """Write `checkpoint-N/` into the output folder; when it is complete, remove old ones beyond the newest `keep`.

    Only checkpoints that this run wrote and that hold nothing else are counted and removed.

    Returns:
        The new folder.

    Raises:
        OutputError: it cannot be written, or an old one not be removed.
    """
    next_serial = 1 + max((serial(folder) or 0 for folder in folders(output)), default=0)
    facts = {"format": _FORMAT, "step": checkpoint.step, "serial": next_serial, **checkpoint.facts}
    contents = {
        STATE_FILE: safetensors_bytes(checkpoint.tensors, {}),
        FACTS_FILE: (json.dumps(facts, ensure_ascii=False, indent=2) + "\n").encode(),
    }
    contents[SUMS_FILE] = "".join(_sum_line(name, data) for name, data in contents.items()).encode()
    target = output / f"checkpoint-{checkpoint.step}"
    with of_kind(CHECKPOINT), atomic.fill_folder(target) as temporary:
        for name, data in contents.items():
            atomic.write_new(temporary / name, data)
    if keep is not None:
        for folder in [folder for folder in newest_first(output) if is_own(folder)][keep:]:
            atomic.remove_folder(folder)
    return target


def read(folder: str | os.PathLike[str]) -> Checkpoint:
    """Read and verify a checkpoint.

    Raises:
        CheckpointError: a file is missing, cut short or changed, was written by a newer version, or holds what no run
            writes, whatever its check sum.
    """
    folder = Path(folder)
    contents = _verified(folder, (STATE_FILE, FACTS_FILE))
    if _contents(folder / SUMS_FILE) != "".join(_sum_line(name, data) for name, data in contents.items()).encode():
        raise CheckpointError(f"{folder} is damaged: {SUMS_FILE} is not as it was written")
    try:
        facts = _facts(contents[FACTS_FILE], folder)
        tensors, _ = read_safetensors(memoryview(contents[STATE_FILE]))
    except (UnusableJson, EmbeddingFileError) as error:
        name = FACTS_FILE if isinstance(error, UnusableJson) else STATE_FILE
        raise CheckpointError(
            f"{folder} is no checkpoint of this program: {name} {error}; choose another one"
        ) from error
    return Checkpoint(facts.pop("step"), tensors, facts, folder)


def _facts(content: bytes, folder: Path) -> dict[str, Any]:
    """The facts of a checkpoint, of the types that a run writes, without its format.

    Raises:
        UnusableJson: they are not.
        CheckpointError: they are of another version.
    """
    found = checked(parse_json(content, allows_nan=True, allows_odd_names=True), dict[str, Any])
    version = found.pop("format", None)
    if type(version) is not int or version != _FORMAT:
        raise CheckpointError(f"{folder} was written by another version of this program; resume with that one")
    facts = checked(found, Facts)
    best = facts["figures"].get("best", {})
    if ("step" in best) != ("score" in best):
        raise UnusableJson("holds a best step without its score, or a score without its step")
    return facts


def find(wanted: str, output: Path, note: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that a user asks for.

    Args:
        wanted: "latest" for the newest in the output folder that is whole; else a checkpoint's folder, also by its name
            in the output folder, or the output folder of another run, whose newest is taken.
        note: told about checkpoints that are passed over.

    Returns:
        None where "latest" is asked for and there is none at all: the run begins.

    Raises:
        CheckpointError: it is not there or damaged, or all are.
    """
    if wanted == LATEST:
        return latest(output, note)
    folder = Path(wanted).expanduser()
    folder = output / wanted if not folder.is_dir() and (output / wanted).is_dir() else folder
    if not folder.is_dir():
        raise CheckpointError(
            f"--resume_from_checkpoint {wanted}: there is no such folder; name a checkpoint-N folder, or say latest"
        )
    return latest(folder, note) if folders(folder) else read(folder)


def latest(output: Path, note: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Raises:
        CheckpointError: there are some and all of them are damaged.
    """
    found = newest_first(output)
    for folder in found:
        try:
            return read(folder)
        except CheckpointError as error:
            note(f"warning: {error}; it is passed over")
    if found:
        raise CheckpointError(
            f"no checkpoint in {output} can be used; remove them to start over, or choose another --output_dir"
        )
    return None


def newest_first(output: Path) -> list[Path]:
    """The checkpoints of an output folder, the one that was written last first.

    Those that do not tell stand before all others, so that they are looked at and named.
    """
    serials = {folder: serial(folder) for folder in folders(output)}
    return sorted(serials, key=lambda f: (serials[f] is None, serials[f] or 0, _steps(f)), reverse=True)


def folders(output: Path) -> list[Path]:
    """All that is called checkpoint-N in a folder."""
    found = Path(output).iterdir() if Path(output).is_dir() else ()
    return [path for path in found if _NAME.fullmatch(path.name) and path.is_dir()]


def _steps(folder: Path) -> int:
    return int(_NAME.fullmatch(folder.name)[1])


def serial(folder: Path) -> int | None:
    """How many checkpoints were written before, counted from 1; None where a damaged one does not tell."""
    try:
        facts = parse_json(_verified(folder, (FACTS_FILE,))[FACTS_FILE], allows_nan=True, allows_odd_names=True)
        return checked(facts, _Written)["serial"]
    except (CheckpointError, UnusableJson):
        return None


def _verified(folder: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The contents of some files; raises CheckpointError where one is not what was written."""
    sums = _contents(folder / SUMS_FILE).decode("utf-8", "replace").splitlines(keepends=True)
    found = {name: _contents(folder / name) for name in names}
    changed = next((name for name, data in found.items() if _sum_line(name, data) not in sums), None)
    if changed is not None:
        raise CheckpointError(f"{folder} is damaged: the check sum of {changed} is not that of {SUMS_FILE}")
    return found


def _contents(path: Path) -> bytes:
    try:
        return user_files.read_bytes(path, _MOST_BYTES[path.name])
    except OSError as error:
        raise CheckpointError(f"{path.parent} is damaged: {path.name} cannot be read ({error.strerror})") from error


def _sum_line(name: str, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def how_to_resume(folder: Path) -> str:
    """The flags with which the same command resumes."""
    return f"resume with the same command and --resume_from_checkpoint latest --output_dir {in_shell(folder)}"
