"""The runs that lie below some folders, and how each of them stands."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textual_inversion.embeddings import file_names
from textual_inversion.embeddings.run_record import FILE_NAME, read_record
from textual_inversion.embeddings.sources import step_files
from textual_inversion.settings.config_yaml import FILE_NAME as CONFIG
from textual_inversion.settings.config_yaml import OTHER_NAME
from textual_inversion.studio import children, curves
from textual_inversion.studio.children import Job
from textual_inversion.studio.curves import Curves
from textual_inversion.studio.workspace import Workspace
from textual_inversion.system.errors import EmbeddingFileError

# How a run stands.
STARTING, RUNNING, STOPPING = "starting", "running", "stopping"
FINISHED, STOPPED, FAILED, UNKNOWN = "finished", "stopped", "failed", "unknown"
ALIVE = (STARTING, RUNNING, STOPPING)
_SAMPLE = re.compile(r"step-(\d{1,12})\.png")
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,12})")
_STOPPED = "stopped by "
_MOST_SAMPLES = 2000


@dataclass(frozen=True)
class Run:
    """A training run in a folder.

    Attributes:
        folder: absolute.
        state: one of those above.
        record: its run.json; {} before it is written.
        curves: what it has logged.
        step: optimizer steps that are done.
        steps: that it is to do; 0 where nobody knows.
        said: how its process ended, in its own words; "" while it runs.
        job: the process that the page started for it.
        left: the time that is left, as that process prints it; "" where nobody knows.
    """

    folder: Path
    state: str
    record: Mapping[str, Any] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    step: int = 0
    steps: int = 0
    said: str = ""
    job: Job | None = None
    left: str = ""

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    @property
    def settings(self) -> Mapping[str, Any]:
        """Its settings by name."""
        return self.record.get("settings") or {}

    @property
    def figures(self) -> Mapping[str, Any]:
        """What it measured."""
        found = self.record.get("figures")
        return found if isinstance(found, dict) else {}

    @property
    def words(self) -> list[str]:
        """Its placeholder tokens."""
        found = self.record.get("placeholder_token")
        return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.state in ALIVE

    @property
    def configuration(self) -> Path | None:
        """The file that repeats it."""
        own = [self.folder / name for name in (OTHER_NAME, CONFIG)]
        return next((path for path in own if path.is_file()), None)

    @property
    def samples(self) -> list[tuple[int, Path]]:
        """(step, file) of its validation images."""
        return _numbered(self.folder / "samples", _SAMPLE)

    @property
    def checkpoints(self) -> list[tuple[int, Path]]:
        """(step, folder) of what it can be resumed from."""
        return _numbered(self.folder, _CHECKPOINT)

    @property
    def embeddings(self) -> dict[str, Path]:
        """What it learned: "final", "best" and steps -> file."""
        found = {"final": self.folder / file_names.FINAL_NAME, "best": self.folder / file_names.BEST_NAME}
        with contextlib.suppress(OSError):
            found |= {re.sub(r".*-steps-(\d+)\..*", r"\1", path.name): path for path in step_files(self.folder)}
        return {name: path for name, path in found.items() if path.is_file() and not path.is_symlink()}


def find(workspace: Workspace) -> list[Path]:
    """The folders of runs in the workspace and the chosen roots, the newest first."""
    found = {folder for folder in workspace.folders(workspace.part("runs"), *workspace.roots) if is_run(folder)}
    return sorted(found, key=_begun, reverse=True)


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a training run, or was meant to be one."""
    if (folder / FILE_NAME).is_file() or folder.parent.name == "runs" and (folder / "logs").is_dir():
        return True
    return folder.parent.name == "runs" and folder.parent.parent.joinpath("jobs").is_dir()


def look_at(workspace: Workspace, folder: Path) -> Run:
    """How a run stands now."""
    problem = ""
    try:
        record = read_record(folder)
    except EmbeddingFileError as error:
        record, problem = {}, f"error: {error}"
    settings = record.get("settings") or {}
    drawn = curves.of_run(folder)
    job, steps = children.job_of(workspace, folder), settings.get("max_train_steps") or 0
    lines = children.log_tail(workspace, folder) if job else []
    told = children.progress_in(lines)
    steps = steps or (told[1] if told else 0)
    state, said = _state(job, record, drawn, lines)
    left = told[2] if told and state == RUNNING else ""
    step = _step(folder, drawn, state, steps)
    return Run(folder, state, record, drawn, step, int(steps), said or problem, job, left)


def _state(job: Job | None, record: Mapping[str, Any], drawn: Curves, lines: list[str]) -> tuple[str, str]:
    """How a run stands, and the last words of its process."""
    has_ended = "seconds" in (record.get("figures") or {})
    if job is None:
        return (FINISHED if has_ended else UNKNOWN), ""
    if job.is_alive:
        return (STOPPING if job.is_stopped else RUNNING if drawn.points else STARTING), ""
    said = children.last_word(lines)
    if said.startswith(_STOPPED) or job.status is not None and job.status > 128:
        return STOPPED, said
    if job.status == 0 or job.status is None and has_ended and not said.startswith("error: "):
        return FINISHED, said
    return (STOPPED if job.is_stopped and not said.startswith("error: ") else FAILED), said


def _step(folder: Path, drawn: Curves, state: str, steps: int) -> int:
    if state == FINISHED and steps:
        return int(steps)
    return max([drawn.step, *(step for step, _ in _numbered(folder, _CHECKPOINT))])


def _begun(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


def _numbered(folder: Path, pattern: re.Pattern) -> list[tuple[int, Path]]:
    try:
        names = [entry.name for entry in os.scandir(folder) if not entry.is_symlink()]
    except OSError:
        return []
    found = [(int(match[1]), folder / name) for name in names if (match := pattern.fullmatch(name))]
    return sorted(found)[-_MOST_SAMPLES:]
