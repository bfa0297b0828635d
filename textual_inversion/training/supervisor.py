"""`--max_restarts N`: a run that dies is started again, from its newest checkpoint.

The command itself stays a small process that starts the run as a child and waits for it. A child that is killed, as by
the system when memory runs out, or that crashes, is started again. One that a user stops is not, nor one that ends with
an error that another start would meet again (exit status 2).

It is for a run of one process. Several are started by Paddle's launcher, which restarts them itself.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from textual_inversion.system import streams
from textual_inversion.system.errors import CheckpointError, Stopped
from textual_inversion.system.paths import ROOT
from textual_inversion.training import checkpoints
from textual_inversion.training.checkpoints import how_to_resume

_LONGEST_WAIT = 60.0  # seconds before a restart; the first wait is a second, and each death without progress doubles it
_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
# Exit statuses of a run that was told to end (the last: nobody reads its output), and of an error of the user's.
_TOLD_TO_END = {128 + number for number in (*_SIGNALS, 13)}
_REFUSED = 2


def command_of(script: str, arguments: Sequence[str], output: str | Path) -> list[str]:
    """The command line of the child that trains.

    Args:
        script: the file of the training command.
        arguments: of the command, without its name.
        output: the folder, or the address, that the run writes to, which each start must be told.
    """
    is_unbuffered = getattr(sys.stdout, "write_through", False)  # as with -u
    python = [sys.executable, *(["-u"] if is_unbuffered else [])]
    return [*python, script, *arguments, "--max_restarts", "0", "--output_dir", str(output)]


class Supervisor:
    """Keeps a run going.

    Args:
        command: of the child.
        output: the run's folder, where its checkpoints are.
        restarts: the most that there may be.
        say: takes a line about each death.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        command: Sequence[str],
        output: Path,
        restarts: int,
        say: Callable[[str], None] = streams.print_error,
        sleep: Callable[[float], object] = time.sleep,
    ):
        self._command, self._output, self._restarts = list(command), output, restarts
        self._say, self._sleep = say, sleep
        self._child: subprocess.Popen | None = None
        self._told: int | None = None  # the signal by which a user has ended it
        self._newest = max((serial for _, serial in _with_serials(output)), default=0)

    def run(self) -> int:
        """Start the run, again and again as need be; returns the exit status."""
        with _handling(self._handle):
            return self._run()

    def _run(self) -> int:
        checkpoint: Path | None = None
        in_a_row = 0
        for death in range(self._restarts + 1):
            status = self._start(checkpoint)
            if status in (0, _REFUSED) or status in _TOLD_TO_END or self._told is not None:
                return status
            found = self._newest_checkpoint()
            in_a_row = 1 if found is not None else in_a_row + 1
            checkpoint = found or checkpoint
            if death < self._restarts:
                seconds = min(2.0 ** (in_a_row - 1), _LONGEST_WAIT)
                where = f"from {checkpoint.name}" if checkpoint else "as it was started"
                line = f"the run died {_reason(status)}; restart {death + 1} of {self._restarts} in {seconds:.0f} s"
                self._say(f"{line}, {where}")
                self._sleep(seconds)
        times = "once" if self._restarts == 0 else f"{self._restarts + 1} times"
        self._say(f"error: the run died {times}, at last {_reason(status)}; {how_to_resume(self._output)}")
        return status

    def _start(self, checkpoint: Path | None) -> int:
        resumed = ["--resume_from_checkpoint", str(checkpoint)] if checkpoint else []
        known = os.environ.get("PYTHONPATH", "")
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), known])))
        # In a session of its own, so that Ctrl-C reaches it once, from here.
        self._child = subprocess.Popen(
            self._command + resumed, env=environment, start_new_session=True, preexec_fn=_ending_with_its_parent()
        )
        if self._told is not None:  # while it was started
            self._child.send_signal(self._told)
        status = self._child.wait()
        self._child = None
        return 128 - status if status < 0 else status

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._told is None:
            self._told = number
        child = self._child
        if child is None:
            raise Stopped(number, f"stopped by {signal.Signals(number).name}; {how_to_resume(self._output)}")
        child.send_signal(number)

    def _newest_checkpoint(self) -> Path | None:
        """The newest whole checkpoint that the run has written since this was asked last."""
        for folder, serial in sorted(_with_serials(self._output), key=lambda one: -one[1]):
            if serial <= self._newest:
                return None
            try:
                checkpoints.read(folder)
            except CheckpointError:
                continue
            self._newest = serial
            return folder
        return None


def _with_serials(output: Path) -> list[tuple[Path, int]]:
    return [(folder, serial) for folder in checkpoints.folders(output) if (serial := checkpoints.serial(folder))]


def _reason(status: int) -> str:
    if status <= 128:
        return f"with exit status {status}"
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return f"with exit status {status}"
    return f"by {name}" + (", as when memory runs out" if name == "SIGKILL" else "")


class _handling:
    """A context manager for the handler of the signals that end a run; those that are ignored stay ignored."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]):
        self._handler, self._before = handler, {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            wanted = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._handler) for number in wanted}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _ending_with_its_parent() -> Callable[[], None] | None:
    """What lets a child be told to end if this process is killed; None where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    control, told_on_death = ctypes.CDLL(None).prctl, 1
    return lambda: control(told_on_death, int(signal.SIGTERM))
