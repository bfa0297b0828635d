"""The watch for lost processes: if one is lost, all others end, and each names the one that was lost.

A process that waits for another one, in a collective operation or for a slow rank 0, cannot see that the other is gone:
gloo gives up after 30 seconds with a message about a socket, and a meeting (`meeting`) would last forever. So every
rank holds a connection to rank 0 from the start (`connections`). The watch needs connections of its own: it must work
before the store of the meetings exists and after it is gone. What a rank learns from its connection:

    lost      a connection ended without a message: the process was killed or crashed, or its machine or the network
              failed. All others end at once, with one line that names the rank and with status `LOST_STATUS`.
    ended     a rank reports that it ends, by an error or a signal. In most cases the others reach the same end by
              themselves within moments, with their own message (all stop after the same step, refuse the same
              settings, …), so they get `_GRACE` seconds; a rank that is still running then ends with the same status.
    left      a rank is done. The others continue.

Where the launchers start again what has failed, all wait `_RESTART_SECONDS` for them before they end for another rank:
of two launchers that see a process fail at the same time, each takes the other one for gone.

All of this is believed only of processes that know the run's secret. Rank 0 draws it and hands it out through the
launcher's key-value store once paddle is imported (`ranks.start`); until then a lost process is seen by its launcher
alone. Where all processes are given the same `SECRET` in their environment, they know it from the beginning.

A rank that is ended in this way exits without any cleanup. That is safe: every file is written beside its target and
renamed (`atomic`). A process that is alone starts none of this.
"""

import atexit
import contextlib
import hashlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from textual_inversion.distributed.connections import Hub, Spoke
from textual_inversion.distributed.messages import LEAST_SECRET, MAX_PATH, MAX_REASON, Message, draw_secret
from textual_inversion.system.errors import SettingsError, Stopped, TextualInversionError, one_line
from textual_inversion.system.progress import print_line

SECRET = "TEXTUAL_INVERSION_SECRET"  # environment variable
LOST_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command may well succeed the next time
_START_SECONDS = 30.0  # in which all processes should have started
_LOOK_SECONDS = 0.2  # between two looks at who is there
_GRACE = 5.0
_RESTART_SECONDS = 10.0  # in which the launcher of a lost process has told the others to end theirs
_CAUSE_SECONDS = 5.0  # in which the cause of a failed exchange should be known


class Peers:
    """The other processes of the run; a context manager that watches them.

    Args:
        environment: the launcher's variables, which tell which process this is; None: `os.environ`.

    Attributes:
        advice: what the user can do when the run was ended; the last part of the message.
        secret: the run's; None on other ranks than the first until they have learned it.

    Raises:
        SettingsError: the secret in the environment is too short.
    """

    def __init__(self, environment: Mapping[str, str] | None = None):
        self.advice = "start all processes again with the same command"
        self._environment = os.environ if environment is None else environment
        self._world_size = int(self._environment.get("PADDLE_TRAINERS_NUM") or 1)
        self._rank = int(self._environment.get("PADDLE_TRAINER_ID") or 0)
        self.secret = self._environment.get(SECRET) or (None if self._rank else draw_secret())
        if self.secret is not None and len(self.secret) < LEAST_SECRET:
            raise SettingsError(f"{SECRET} has fewer than {LEAST_SECRET} characters; give all processes a longer one")
        self._link: Hub | Spoke | None = None
        self._obstacle = ""  # why there is no link
        self._changed = threading.Condition()  # of all that follows
        self._about: dict[int, Message] = {}  # rank -> its message about itself
        self._ready: set[int] = set()
        self._ended: set[int] = set()
        self._has_started = self._is_leaving = False
        self._ending: tuple[str, int] | None = None  # the line and the status with which this process is to be ended
        self._restarted_by = 0.0  # until this moment of `time.monotonic` its launcher may be about to end it

    def __enter__(self) -> "Peers":
        if self._world_size == 1:
            return self
        address, about = _address(self._environment), _about(self._environment, self._rank)
        if address is None:
            self._obstacle = "the launcher has reserved no port"
        elif self._rank:
            self._link = Spoke(address, about, self._heard, self._gone, self.secret)
        else:
            try:
                self._link = Hub(address, about, self._world_size, self.secret, self._heard, self._gone)
            except OSError as error:
                self._obstacle = f"port {address[1]} cannot be opened ({error.strerror or error})"
        if self._link is not None:
            self._link.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        """Tell the others how this process ends. If it ends because of another one, end with the other's status."""
        if self._link is None:
            return
        status, reason = _status_and_reason(error)
        if _is_fault(error):  # perhaps an exchange that failed because a rank was lost
            self._wait(lambda: self._ending, _CAUSE_SECONDS)
        with self._changed:
            follows = self._ending is not None and _follows_from_another(error, self._ending[1])
            self._is_leaving = not follows
        if follows:
            with contextlib.suppress(Stopped):  # the launcher has come
                time.sleep(max(0.0, self._restarted_by - time.monotonic()))
            _end(*self._ending)
        if status:
            self._wait(self._all_connected, _GRACE)  # else they would never learn of it
            atexit.register(leave, status)
        told = {"status": max(-255, min(255, status)), "reason": reason[:MAX_REASON]}
        self._link.send(_about(self._environment, self._rank) | told)
        self._link.close()

    def learn(self, secret: str) -> None:
        """Take over the secret that rank 0 has handed out; returns when all watch one another, if they ever do."""
        self.secret = secret
        if isinstance(self._link, Spoke):
            self._link.learn(secret)
        if self._link is not None:
            self._wait(self._all_connected, _GRACE)

    def wait_for_all(self) -> None:
        """Return when all ranks have called this; to be called before anything that cannot be interrupted.

        A rank that hasn't even started, or has gone, for a while isn't waited for. Rank 0 says so, and all proceed.
        """
        if self._link is not None:
            if self._rank:
                self._link.send({"ready": True})
            self._wait_while_present()
            if SECRET in self._environment and self._is_complete(self._link.present):
                self._wait(self._all_connected, _GRACE)
            if self._rank == 0:
                self._start()
        for gap in [self._obstacle, self._missing()]:
            if gap and self._rank == 0:
                print_line(f"note: {gap}: if a process dies, others may wait for it for a long time")

    def _start(self) -> None:
        with self._changed:
            self._has_started = True
            self._link.send_start()

    def _missing(self) -> str:
        missing = sorted(set(range(1, self._world_size)) - self._link.present) if self._link else []
        return f"rank {', '.join(map(str, missing))} has no connection to rank 0" if missing else ""

    def _wait_while_present(self) -> None:
        """Wait until all are ready, as long as none has been away for `_START_SECONDS`."""
        last = time.monotonic()
        while not self._all_ready() and time.monotonic() - last < _START_SECONDS:
            if self._is_complete(self._link.present):
                last = time.monotonic()
            self._wait(self._all_ready, min(_LOOK_SECONDS, _START_SECONDS))

    def _is_complete(self, ranks: set[int]) -> bool:
        return len(ranks) == (self._world_size - 1 if self._rank == 0 else 1)

    def _all_connected(self) -> bool:
        return self._is_complete(self._link.connected)

    def _all_ready(self) -> bool:
        return self._has_started if self._rank else len(self._ready) == self._world_size - 1

    def _wait(self, condition: Callable[[], Any], seconds: float | None = None) -> Any:
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    # ------------------------------------------------------------------------------------------ in the link's thread

    def _heard(self, rank: int, message: Message) -> None:
        """Handle a message from a rank, about itself or, from rank 0, about another one."""
        with self._changed:
            about = message.get("rank", rank)
            if not self._may_speak(rank, about):
                return
            if "run" in message:
                self._about[about] = message
            self._has_started |= "start" in message
            if "ready" in message:
                self._ready.add(rank)
                if self._has_started:  # without waiting for this one, which started late
                    self._start()
            self._changed.notify_all()
        if "status" in message:
            self._has_ended(message)

    def _may_speak(self, rank: int, about: int) -> bool:
        """Whether a rank may say something about a rank: each about itself, rank 0 about all."""
        return about == rank if self._rank == 0 else 0 <= about < self._world_size

    def _gone(self, rank: int) -> None:
        if rank not in self._ended:
            self._has_ended({**self._about[rank], "status": None})

    def _has_ended(self, message: Message) -> None:
        """Handle the end of a rank: tell the others, and end this process too unless the rank was done."""
        with self._changed:
            self._ended.add(message["rank"])
            if message["status"] == 0 or message["rank"] == self._rank or self._is_leaving:
                return
        if self._rank == 0:
            self._link.send(message)
        is_lost = message["status"] is None
        status = LOST_STATUS if is_lost else int(message["status"])
        is_restarted = _is_restarted(self._environment)
        patience = _RESTART_SECONDS if is_restarted else 0.0 if is_lost else _GRACE
        with self._changed:
            self._ending = self._ending or (_line(message, self.advice), status)
            if is_restarted:
                self._restarted_by = max(self._restarted_by, time.monotonic() + patience)
            self._changed.notify_all()
        if not patience:
            self._end_unless_leaving()
            return
        timer = threading.Timer(patience, self._end_unless_leaving)
        timer.daemon = True
        timer.start()

    def _end_unless_leaving(self) -> None:
        with self._changed:
            if not self._is_leaving:
                _end(*self._ending)


def leave(status: int) -> NoReturn:
    """Flush this process's output and end it, without tearing anything down.

    The native threads of gloo and of the key-value store are torn down in an order that no rank controls. Ranks that
    lost a peer at that moment have aborted with all their work done, and the launcher then calls the whole run failed.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _about(environment: Mapping[str, str], rank: int) -> Message:
    """What the others should know of a process: the run it belongs to, its machine, and its log."""
    names = ("PADDLE_MASTER", "PADDLE_TRAINER_ENDPOINTS", "PADDLE_TRAINERS_NUM")
    run = hashlib.sha256("\n".join(environment.get(name, "") for name in names).encode()).hexdigest()[:16]
    log = Path(environment.get("PADDLE_LOG_DIR", "")) / f"workerlog.{environment.get('PADDLE_LOCAL_RANK', rank)}"
    known = log.is_file() and len(str(log)) <= MAX_PATH
    return {"run": run, "rank": rank, "host": platform.node()[:255], "log": str(log) if known else ""}


def _address(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Where rank 0 can listen: the port that the launcher reserves for each rank, and that paddle does not use.

    Only in the launcher's old way, with --ips, is rank 0's port also that of the key-value store: then None.
    """
    endpoint = environment.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or endpoint == environment.get("PADDLE_MASTER"):
        return None
    return host, int(port)


def _is_restarted(environment: Mapping[str, str]) -> bool:
    """Whether the launcher starts lost processes again: `--elastic_level`, a flag of it or a variable, above 0."""
    level = environment.get("PADDLE_ELASTIC_LEVEL", "")
    with contextlib.suppress(OSError, ValueError):  # no such file; no such flag
        said = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace")
        words = said.replace("=", "\0").split("\0")  # a zero ends each, so there is always one more
        level = words[words.index("--elastic_level") + 1]
    return level.isdigit() and int(level) > 0


def _status_and_reason(error: BaseException | None) -> tuple[int, str]:
    """The exit status of a process after an error, and its message, as in `errors.run_command`."""
    if isinstance(error, Stopped):
        return error.status, str(error)
    if isinstance(error, (TextualInversionError, MemoryError)):
        return 2, one_line(error)[:MAX_REASON] or "not enough memory"
    if isinstance(error, SystemExit):
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), ""
    return (0, "") if error is None else (1, f"a fault of the program, {type(error).__name__}")


def _is_fault(error: BaseException | None) -> bool:
    """Whether an error is a fault of the program or of an exchange between ranks, which no user can fix."""
    return isinstance(error, Exception) and not isinstance(error, (TextualInversionError, MemoryError))


def _follows_from_another(error: BaseException | None, status: int) -> bool:
    """Whether this process's end only follows from that of another process, which ended with `status`."""
    if isinstance(error, Stopped):  # by a launcher that lost one of its processes; or all were stopped
        return status < 128
    return _is_fault(error)


def _line(message: Message, advice: str) -> str:
    """What happened to a rank, where to read more about it, and what to do."""
    status, reason = message["status"], message.get("reason")
    log = f" and in {message['log']} there" if message.get("log") else ""
    if status is None:
        what = f"was lost: killed, crashed, or its machine cannot be reached; its output is on its node's console{log}"
    else:
        in_words = f" ({reason})" if reason else ""
        what = f"ended with status {status}{in_words}; its own error is on its node's console{log}"
    fix = "fix that, and " if status in (1, 2) else ""
    return f"error: rank {message['rank']} ({message['host']}) {what}; this process ends too; {fix}{advice}"


def _write_error(text: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads it, or the disk is full
        os.write(2, text)


def _end(line: str, status: int) -> NoReturn:
    """Print a line and end this process, from any thread, without waiting for anything."""
    text = f"{one_line(line)}\n".encode(errors="replace")
    writer = threading.Thread(target=_write_error, args=(text,), daemon=True)
    writer.start()
    writer.join(_GRACE)  # whoever reads the output may have stopped reading
    os._exit(status)
