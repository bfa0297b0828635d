"""Child processes that outlive the page: started in a session of their own, recorded, and found again.

    WORKSPACE/jobs/KEY/job.json     which command works on which folder, and as which process
    WORKSPACE/jobs/KEY/log.txt      what it prints

A process is known by its id and by the moment of its start, since ids are given out again. No shell is involved: a
command is a list of words.
"""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from typing_extensions import TypedDict

from textual_inversion.studio.workspace import Workspace
from textual_inversion.system import atomic, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.errors import OutputError, SettingsError

_RECORD, _LOG = "job.json", "log.txt"
_MOST_RECORD = 1 << 20
_TAIL = 64 << 10  # bytes of a log's end that are looked at
_PROGRESS = re.compile(r"(?:^|\s)(?:step|denoising step) (\d+)/(\d+)\b")
_REMAINING = re.compile(r"([\d:]+) remaining")
_NO_NEWS = re.compile(r"^(?:\[\d|W\d{4}|I\d{4}|warnings\.warn|/.*Warning)")  # of libraries
# Children of this process, which nobody else can wait for.
_own: dict[int, subprocess.Popen] = {}


class _Record(TypedDict):
    argv: list[str]
    pid: int
    started: int
    boot: str
    time: float
    is_stopped: bool
    status: int | None


@dataclass(frozen=True)
class Job:
    """A process that works, or worked, on a folder.

    Attributes:
        argv: its words, the interpreter included.
        pid: of the process.
        started: when it began, in ticks since the machine did.
        boot: tells the starts of the machine apart.
        time: when it began, in seconds since 1970.
        is_stopped: the page asked it to end.
        status: its exit status, where this page saw it.
    """

    argv: list[str]
    pid: int
    started: int
    boot: str
    time: float
    is_stopped: bool = False
    status: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process is running."""
        own = _own.get(self.pid)
        if own is not None and own.poll() is not None and _own.pop(self.pid, None):
            return False
        return self.boot == _boot() and self.started == _started(self.pid)


def start(workspace: Workspace, folder: Path, argv: Sequence[str]) -> Job:
    """Start a process that works on a folder.

    Raises:
        SettingsError: one is at work on it already.
        OutputError: it cannot be started.
    """
    there = job_of(workspace, folder)
    if there is not None and there.is_alive:
        raise SettingsError(f"a process is at work on {folder.name} already; wait until it ends, or stop it")
    place = atomic.make_folder(workspace.job_folder(folder))
    atomic.write_text(place / _LOG, "")
    log = os.open(place / _LOG, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0))
    try:
        child = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
    except OSError as error:
        raise OutputError(f"{argv[0]} cannot be started ({error.strerror}); install the program again") from error
    finally:
        os.close(log)
    _own[child.pid] = child
    job = Job(list(argv), child.pid, _started(child.pid) or 0, _boot(), time.time())
    _write(place, job)
    return job


def job_of(workspace: Workspace, folder: Path) -> Job | None:
    """The last process that this page started on a folder; None: there was none."""
    place = workspace.job_folder(folder)
    try:
        content = user_files.read_bytes(place / _RECORD, _MOST_RECORD)
        job = Job(**checked(parse_json(content), _Record))
    except (OSError, UnusableJson, TypeError):
        return None
    own = _own.get(job.pid)
    if job.status is None and own is not None and own.poll() is not None:
        job = replace(job, status=own.returncode)
        with contextlib.suppress(OutputError):
            _write(place, job)
    return job


def stop(workspace: Workspace, folder: Path) -> None:
    """Ask the process that works on a folder to end, as SIGTERM does; it writes a checkpoint first."""
    job = job_of(workspace, folder)
    if job is None or not job.is_alive:
        return
    _write(workspace.job_folder(folder), replace(job, is_stopped=True))
    with contextlib.suppress(ProcessLookupError):
        os.kill(job.pid, signal.SIGTERM)


def forget(workspace: Workspace, folder: Path) -> None:
    """Remove the record and the log of a folder's process, which must have ended."""
    place = workspace.job_folder(folder)
    if place.is_dir():
        atomic.remove_folder(place)


def log_tail(workspace: Workspace, folder: Path) -> list[str]:
    """The last lines that the process printed."""
    return tail(workspace.job_folder(folder) / _LOG)


def tail(path: Path) -> list[str]:
    """The last lines of a text file; of each what is after its last carriage return."""
    try:
        with user_files.opened(path, user_files.WEIGHTS) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            text = file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.splitlines()[1 if size > _TAIL else 0 :]
    return [line.rstrip() for line in lines if line.strip()]


def last_word(lines: Sequence[str]) -> str:
    """The line that says how a process ended: its error if there is one, else the last line that is no progress."""
    errors = [line for line in lines if line.startswith("error: ") or "Error: " in line[:60]]
    if errors:
        return errors[-1]
    said = [line for line in lines if not _PROGRESS.search(line) and not _NO_NEWS.search(line)]
    return (said or list(lines) or [""])[-1]


def progress_in(lines: Sequence[str]) -> tuple[int, int, str] | None:
    """(done, all, time remaining) of the last line that tells how far a process has come."""
    for line in reversed(lines):
        found = _PROGRESS.search(line)
        if found:
            left = _REMAINING.search(line)
            return int(found[1]), int(found[2]), left[1] if left else ""
    return None


def run_briefly(argv: Sequence[str], seconds: float = 600) -> tuple[int, list[str]]:
    """Run a command to its end: its exit status, and the lines that it printed."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return 2, [f"error: it took more than {seconds:.0f} seconds and was ended; use the command line for this"]
    except OSError as error:
        return 2, [f"error: {argv[0]} cannot be started ({error.strerror})"]
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return done.returncode, [line for line in lines if line.strip() and not _NO_NEWS.search(line)]


def _write(place: Path, job: Job) -> None:
    atomic.write_json(place / _RECORD, asdict(job))


def _boot() -> str:
    return _system_file("/proc/sys/kernel/random/boot_id").strip()


def _started(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None: it is not there, or has ended."""
    fields = _system_file(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in "ZX":  # it has ended, and its parent has not asked
        return None
    return int(fields[19])


def _system_file(path: str) -> str:
    try:
        return user_files.read_bytes(path, 1 << 16).decode("utf-8", "replace")
    except OSError:
        return ""
