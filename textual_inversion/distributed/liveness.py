"""No process of a run outlives another one that was lost, and each says which one that was.

A process that waits for another, in a collective operation or for a slow rank 0, cannot see that the other is gone:
gloo gives up after 30 seconds with a message about a socket, and a wait of ours would last for ever. So from the first
moment on every rank holds a connection to rank 0 (`links`). What is seen there:

    lost      a connection ended without a word: killed, crashed, machine or network gone. All others end at once,
              with one line that names the rank and with status `LOST_STATUS`.
    ended     a rank says that it ends with an error or was told to end. In most cases the others come to the same end
              by themselves within moments, with their own words (all are stopped after the same step, refuse the same
              settings, …), so they get `_GRACE` seconds; who is still there then ends with the other's status.
    left      a rank is done. Nobody minds.

Whoever is ended so leaves without any tidying up: every file is written beside its place and renamed (`atomic`).
A process that is alone starts nothing of this.
"""

import atexit
import contextlib
import hashlib
import os
import platform
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from textual_inversion.distributed.links import Hub, Spoke
from textual_inversion.system.errors import Stopped, TextualInversionError, one_line
from textual_inversion.system.progress import print_line

LOST_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command may well succeed the next time
_COME = 30.0  # seconds in which all processes should have begun
_GRACE = 5.0
_NEWS = 5.0  # seconds in which the cause of a failed exchange should be known
_LONGEST = 500  # characters that are told of another rank's error


class Peers:
    """The other processes of the run, for as long as it is entered.

    Args:
        environment: where the launcher says who this process is.

    Attributes:
        advice: what to do about a run that has ended so, the end of its line.
    """

    def __init__(self, environment: Mapping[str, str] | None = None):
        self.advice = "start all processes again with the same command"
        self._environment = os.environ if environment is None else environment
        self._world_size = int(self._environment.get("PADDLE_TRAINERS_NUM") or 1)
        self._rank = int(self._environment.get("PADDLE_TRAINER_ID") or 0)
        self._link: Hub | Spoke | None = None
        self._obstacle = ""  # why there is no link
        self._changed = threading.Condition()  # of all that follows
        self._known: dict[int, dict] = {}  # rank -> what it said of itself
        self._ready: set[int] = set()
        self._ended: set[int] = set()
        self._goes_on = self._is_leaving = False
        self._news: tuple[str, int] | None = None  # the line and the status with which this process would be ended

    def __enter__(self) -> "Peers":
        if self._world_size == 1:
            return self
        address, about = _address(self._environment), _about(self._environment, self._rank)
        if address is None:
            self._obstacle = "the launcher has reserved no port"
        elif self._rank:
            self._link = Spoke(address, about, self._heard, self._gone)
        else:
            try:
                self._link = Hub(address, about, self._world_size, self._heard, self._gone)
            except OSError as error:
                self._obstacle = f"port {address[1]} cannot be opened ({error.strerror or error})"
        if self._link is not None:
            self._link.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        """Say how this process ends; where another one's end is why, end with that instead."""
        if self._link is None:
            return
        status, said = _ending(error)
        if isinstance(error, Exception) and not isinstance(error, (TextualInversionError, MemoryError)):
            self._wait(lambda: self._news, _NEWS)  # an exchange that failed, or a fault of the program
        with self._changed:
            if self._news is not None and _gives_way(error, self._news[1]):
                _end(*self._news)
            self._is_leaving = True
        if status:
            self._wait(self._all_connected, _GRACE)  # else nobody would ever hear of it
            atexit.register(_leave, status)
        self._link.send({**_about(self._environment, self._rank), "status": status, "said": said})
        self._link.close()

    def wait_for_all(self) -> None:
        """Return when all ranks have come here; before anything that cannot be interrupted.

        Whoever has not even begun after a while is not waited for. Rank 0 says so, and goes on.
        """
        if self._link is not None:
            if self._wait(self._all_connected, _COME):
                self._link.send({"ready": True})
                self._wait(self._all_ready)
            if self._rank == 0:
                self._go()
        for gap in [self._obstacle, self._missing()]:
            if gap and self._rank == 0:
                print_line(f"note: {gap}: if a process dies, others may wait for it for long")

    def _go(self) -> None:
        with self._changed:
            self._goes_on = True
            self._link.send({"go": True})

    def _missing(self) -> str:
        missing = sorted(set(range(1, self._world_size)) - self._link.connected) if self._link else []
        return f"rank {', '.join(map(str, missing))} has no connection to rank 0" if missing else ""

    def _all_connected(self) -> bool:
        return len(self._link.connected) == (self._world_size - 1 if self._rank == 0 else 1)

    def _all_ready(self) -> bool:
        return self._goes_on if self._rank else len(self._ready) == self._world_size - 1

    def _wait(self, condition, seconds: float | None = None) -> Any:
        with self._changed:
            return self._changed.wait_for(condition, seconds)

    # ------------------------------------------------------------------------------------------ in the link's thread

    def _heard(self, rank: int, message: dict) -> None:
        """A message from a rank, about itself or, from rank 0, about another one."""
        with self._changed:
            about = message.get("rank", rank)
            if "run" in message:
                self._known[about] = message
            self._goes_on |= "go" in message
            if "ready" in message:
                self._ready.add(rank)
                if self._goes_on:  # without waiting for this one, which began late
                    self._go()
            self._changed.notify_all()
        if "status" in message:
            self._has_ended(message)

    def _gone(self, rank: int) -> None:
        if rank not in self._ended:
            self._has_ended({**self._known[rank], "status": None})

    def _has_ended(self, message: dict) -> None:
        """A rank is gone, or about to go: tell the others, and end too where that is called for."""
        with self._changed:
            self._ended.add(message["rank"])
            if message["status"] == 0 or message["rank"] == self._rank or self._is_leaving:
                return
        if self._rank == 0:
            self._link.send(message)
        status = LOST_STATUS if message["status"] is None else int(message["status"])
        with self._changed:
            self._news = self._news or (_line(message, self.advice), status)
            self._changed.notify_all()
        if message["status"] is None:
            self._end_unless_leaving()
        else:
            timer = threading.Timer(_GRACE, self._end_unless_leaving)
            timer.daemon = True
            timer.start()

    def _end_unless_leaving(self) -> None:
        with self._changed:
            if not self._is_leaving:
                _end(*self._news)


def _about(environment: Mapping[str, str], rank: int) -> dict:
    """What the others should know of a process: the run it belongs to, its machine, and where its words are kept."""
    names = ("PADDLE_MASTER", "PADDLE_TRAINER_ENDPOINTS", "PADDLE_TRAINERS_NUM")
    run = hashlib.sha256("\n".join(environment.get(name, "") for name in names).encode()).hexdigest()[:16]
    log = Path(environment.get("PADDLE_LOG_DIR", "")) / f"workerlog.{environment.get('PADDLE_LOCAL_RANK', rank)}"
    return {"run": run, "rank": rank, "host": platform.node(), "log": str(log) if log.is_file() else ""}


def _address(environment: Mapping[str, str]) -> tuple[str, int] | None:
    """Where rank 0 can listen: the port that the launcher reserves for each rank, and that paddle does not use.

    Only in the launcher's old way, with --ips, is the first of them also that of the key-value store.
    """
    endpoint = environment.get("PADDLE_TRAINER_ENDPOINTS", "").split(",")[0]
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdigit() or endpoint == environment.get("PADDLE_MASTER"):
        return None
    return host, int(port)


def _ending(error: BaseException | None) -> tuple[int, str]:
    """The status with which a process ends after an error, and what it says, as `errors.run_command` has it."""
    if isinstance(error, Stopped):
        return error.status, str(error)
    if isinstance(error, (TextualInversionError, MemoryError)):
        return 2, one_line(error)[:_LONGEST] or "not enough memory"
    if isinstance(error, SystemExit):
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), ""
    return (0, "") if error is None else (1, f"a fault of the program, {type(error).__name__}")


def _gives_way(error: BaseException | None, status: int) -> bool:
    """Whether this process's own end only follows from that of another one, which had a status."""
    if isinstance(error, Stopped):  # by a launcher that has lost one of its own; or all were stopped
        return status < 128
    return isinstance(error, Exception) and not isinstance(error, (TextualInversionError, MemoryError))


def _line(message: dict, advice: str) -> str:
    """What happened to a rank, where there is more about it, and what to do."""
    status, said = message["status"], message.get("said")
    log = f" and in {message['log']} there" if message.get("log") else ""
    if status is None:
        what = (
            f"was lost: killed, crashed, or its machine cannot be reached; what it said is on its node's console{log}"
        )
    else:
        told = f" ({said})" if said else ""
        what = f"ended with status {status}{told}; its own error is on its node's console{log}"
    mend = "mend that, and " if status in (1, 2) else ""
    return f"error: rank {message['rank']} ({message['host']}) {what}; this process ends too; {mend}{advice}"


def _leave(status: int) -> NoReturn:
    """End as `distributed.Ranks.leave` does: native threads that lose a peer while they are torn down may abort."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _end(line: str, status: int) -> NoReturn:
    """Leave from whatever thread, without waiting for anything."""
    text = f"{one_line(line)}\n".encode(errors="replace")
    writer = threading.Thread(target=os.write, args=(2, text), daemon=True)
    writer.start()
    writer.join(_GRACE)  # whoever reads it may have fallen asleep
    os._exit(status)
