"""A command of this project as a child process, for a task of the cluster.

The child gets its number of threads, does not outlive the process that started it (on Linux), and holds none of the
cluster's secrets. What it prints goes into a file.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.system import user_files
from textual_inversion.system.addresses import VARIABLE
from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import open_log
from textual_inversion.system.output_lock import locked
from textual_inversion.system.paths import ROOT, script_file

REFUSED = 2  # the exit status of a command whose settings or files cannot be used; trying again changes nothing
_POLL = 0.1  # seconds
_LOCK_SECONDS = 90.0  # how long an earlier process of the same run may take to write its last checkpoint
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_TAIL = 64 << 10  # bytes of a log in which its error is looked for
_LOG = 64 << 20
try:
    _libc = ctypes.CDLL(None)  # before any fork: afterwards only a call is safe
except (OSError, TypeError):
    _libc = None


@dataclass(frozen=True)
class Child:
    """How commands are started.

    Attributes:
        folder: the working directory, which relative paths of a command line are of.
        threads: CPU threads.
        processes: under the launcher, where there are several.
        is_on_cards: whether each process has a card of its own.
        place: what `addresses.for_child` says of the folder that all write into.
    """

    folder: str
    threads: int = 1
    processes: int = 1
    is_on_cards: bool = False
    place: str = ""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: its exit status; negative: the signal that ended it.
        error: its line `error: …`, or what else is known.
    """

    status: int
    error: str | None = None


def run(
    command: str,
    arguments: Sequence[str],
    child: Child,
    log: Path,
    *,
    extra: Mapping[str, str] | None = None,
    is_enough: Callable[[], bool] | None = None,
) -> Ended:
    """Run a command to its end, or until it has done enough, and then end it in an orderly way.

    Args:
        command: one of `paths.SCRIPTS`.
        log: what it prints is added to this file.
        extra: further variables of its environment.
        is_enough: asked several times a second.
    """
    words = [*_start(command, child), *arguments]
    folder = child.folder if os.path.isdir(child.folder) else None
    with os.fdopen(open_log(log), "ab", buffering=0) as output:
        begin = output.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            words, cwd=folder, env=environment(os.environ, child) | dict(extra or {}), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, preexec_fn=_end_with_parent,
        )  # fmt: skip
        try:
            _wait(process, is_enough)
        finally:
            if process.poll() is None:
                process.terminate()
    return Ended(process.returncode, None if process.returncode == 0 else _error_in(log, begin, process.returncode))


def _start(command: str, child: Child) -> list[str]:
    launcher = []
    if child.processes > 1:
        cards = ["--devices", ",".join(map(str, range(child.processes)))] if child.is_on_cards else []
        launcher = ["-m", "paddle.distributed.launch", *(cards or ["--nproc_per_node", str(child.processes)])]
    return [sys.executable, "-u", *launcher, str(script_file(command))]


def environment(variables: Mapping[str, str], child: Child) -> dict[str, str]:
    """The environment of a child: its threads, this project, and none of the cluster's own variables."""
    kept = {name: value for name, value in variables.items() if not name.startswith(("RAY_", "PADDLE_"))}
    path = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    threads = max(1, child.threads // child.processes)
    kept.pop(VARIABLE, None)
    kept |= {VARIABLE: child.place} if child.place else {}
    return kept | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def _end_with_parent() -> None:
    """Ask for SIGTERM when the thread that started this process ends, also by SIGKILL: only Linux can."""
    if _libc is not None and hasattr(_libc, "prctl"):
        _libc.prctl(_DEATH_SIGNAL, signal.SIGTERM)


def _wait(process: subprocess.Popen, is_enough: Callable[[], bool] | None) -> None:
    told = False
    while process.poll() is None:
        if is_enough is not None and not told and is_enough():
            process.terminate()
            told = True
        time.sleep(_POLL)


def _error_in(log: Path, begin: int, status: int) -> str:
    """The last error in a log from a position on, or how the process ended."""
    try:
        text = user_files.read_bytes(log, _LOG)[begin:][-_TAIL:].decode("utf-8", "replace")
    except OSError:
        text = ""
    errors = [line.removeprefix("error: ") for line in text.splitlines() if line.startswith("error: ")]
    if errors:
        return errors[-1]
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}; see {log}"


def wait_until_free(folder: Path, seconds: float = _LOCK_SECONDS) -> None:
    """Wait until no process writes into an output folder: one whose node was lost may be about to end.

    Raises:
        OutputError: it does not end.
    """
    until = time.monotonic() + seconds
    while folder.is_dir():
        try:
            with locked(folder):
                return
        except OutputError:
            if time.monotonic() > until:
                raise
        time.sleep(_POLL)
