"""A tracker's package at work in a process of its own, and the writer by which a run reaches it.

Such packages print, ask for passwords, install handlers for signals and for the end of the process, start services, and
wait for servers. In a process of its own none of that touches the run: it cannot ask, its output goes nowhere, what
hangs is ended, and nothing outlives the run by more than a moment. It also sees neither the command line of the run,
where an access token may stand, nor its memory.

    run      one line of JSON for each call:  {"method": "add_scalar", "arguments": ["train/loss", 0.5, 3]}
    process  one line for each answer:        {} or {"error": "No API key configured"}
"""

import base64
import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.system import atomic, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.paths import ROOT
from textual_inversion.system.terminal_text import one_line
from textual_inversion.system.written_files import LOG, of_kind

_SECONDS_TO_BEGIN = 60.0  # an import takes some of them, a server that does not answer the rest
_SECONDS_TO_END = 30  # for what still waits when the run has died
_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_BYTES = 4096  # of the file that names the run
# What is not in a package's message, but a user can do about it.
_WAYS_OUT = {
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server that answers, or leave it unset for files",
    "swanlab": "log in with `swanlab login`, or set SWANLAB_MODE=offline",
}
_PROGRAM = "import sys; sys.path[0] = sys.argv[1]; from textual_inversion.system.tracker_process import main; main()"


class Writer:
    """Hands calls to the process, and waits for the answer to each.

    Args:
        process: just started.
        name: of the tracker.
    """

    def __init__(self, process: subprocess.Popen, name: str):
        self._process, self._name = process, name

    def begin(self, facts: Mapping[str, Any], seconds: float = _SECONDS_TO_BEGIN) -> str | None:
        """Open the tracker's run; returns its name there.

        Raises:
            SettingsError: it cannot begin, or does not within so many seconds.
        """
        try:
            return self._call("open", facts, seconds=seconds).get("run")
        except OSError as error:
            self.abandon()
            self._process.stdout.close()
            raise SettingsError(
                f"--report_to {self._name}: {one_line(error)}; {_WAYS_OUT[self._name]}, or leave it out"
            ) from None

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to a curve; raises OSError where the tracker refuses it."""
        self._call("add_scalar", tag, value, step)

    def add_image(self, tag: str, pixels: np.ndarray, step: int, *, dataformats: str = "HWC") -> None:
        """Add one image (H, W, 3) of uint8; raises OSError where the tracker refuses it."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        self._call("add_image", tag, base64.b64encode(file.getvalue()).decode("ascii"), step)

    def add_text(self, tag: str, text: str, step: int) -> None:
        """Add one text; raises OSError where the tracker refuses it."""
        self._call("add_text", tag, text, step)

    def flush(self) -> None:
        """Have everything written that was added; raises OSError where the tracker cannot."""
        self._call("flush")

    def close(self) -> None:
        """End the tracker's run in good order, and its process."""
        self._call("close")
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        self.abandon()
        self._process.stdout.close()

    def abandon(self) -> None:
        """End the process and whatever it has started, at once; may be called from another thread, and twice."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)  # its services are in its group, also without it
            else:
                self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)

    def _call(self, method: str, *arguments: Any, seconds: float | None = None) -> dict[str, Any]:
        line = json.dumps({"method": method, "arguments": arguments}, default=str) + "\n"
        self._process.stdin.write(line.encode("ascii"))
        self._process.stdin.flush()
        if seconds is not None and not select.select([self._process.stdout], [], [], seconds)[0]:
            raise OSError(f"it does not begin within {seconds:.0f} seconds")
        answer = self._process.stdout.readline()
        if not answer:
            raise OSError("its process has ended")
        said = parse_json(answer)
        if "error" in said:
            raise OSError(said["error"])
        return said


def open_writer(name: str, logdir: Path, resumed_at: int | None, settings: Mapping[str, Any]) -> Writer:
    """Start the process of a tracker and open its run, which a resumed run goes on with.

    Args:
        name: a package of `hosted_trackers`.
        logdir: where it keeps what it keeps in files; it is there.
        resumed_at: the first step that a resumed run logs; None for a new run.
        settings: of the run.

    Raises:
        SettingsError: the tracker cannot begin.
        OSError: the file with the name of its run cannot be written.
    """
    earlier = None if resumed_at is None else _earlier_run(logdir, name)
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(ROOT), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # a Ctrl-C is for the run
    )
    writer = Writer(process, name)
    facts = {"logdir": str(logdir.resolve()), "title": logdir.resolve().parent.name, "run": earlier,
             "settings": settings}  # fmt: skip
    run = writer.begin(facts)
    if run is not None and _RUN.fullmatch(run):
        with of_kind(LOG):
            atomic.write_json(_file(logdir, name), {"run": run})
    return writer


def _file(logdir: Path, name: str) -> Path:
    return logdir / f"{name}.json"


def _earlier_run(logdir: Path, name: str) -> str | None:
    """What the tracker calls the run that is resumed; None where that is not known."""
    try:
        content = user_files.read_bytes(_file(logdir, name), _MOST_BYTES)
        found = checked(parse_json(content), dict[str, str]).get("run", "")
    except (OSError, UnusableJson):
        return None
    return found if _RUN.fullmatch(found) else None


# ------------------------------------------------------------------------------------------------------- the process


def main() -> None:
    """Answer the calls on standard input, until one is `close` or the run has died."""
    from textual_inversion.system.hosted_trackers import TRACKERS

    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the packages print is for nobody
    make, tracker, method = TRACKERS[sys.argv[2]], None, ""
    while method != "close" and (line := sys.stdin.buffer.readline()):
        call = parse_json(line, allows_nan=True)  # a loss may be NaN
        method, arguments = call["method"], call["arguments"]
        said: dict[str, Any] = {}
        try:
            if method == "open":
                tracker = make(**arguments[0])
                said = {"run": tracker.run}
            elif method == "add_image":
                tracker.add_image(arguments[0], _pixels(arguments[1]), arguments[2])
            else:
                getattr(tracker, method)(*arguments)
        except Exception as error:  # the run says it
            said = {"error": one_line(f"{error}" or type(error).__name__)[:300]}
        answers.write(json.dumps(said).encode("ascii") + b"\n")
    if method != "close" and tracker is not None:
        _end(tracker)
    os._exit(0)  # whatever a package would still wait for at the end of its process


def _end(tracker: Any) -> None:
    """End a tracker's run as one that failed, within a time."""
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
        signal.alarm(_SECONDS_TO_END)
    with contextlib.suppress(Exception):
        tracker.close(failed=True)


def _pixels(encoded: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        return np.asarray(image.convert("RGB"))
