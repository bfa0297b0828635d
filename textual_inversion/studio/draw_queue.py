"""Drawing: requests wait in a queue, and one process draws them in order with a model that stays loaded.

Paddle is in that process alone. If it is killed, the request that it was at fails with its last line, and the next one
starts another process. Each request is a whole command line of `infer.py`, drawn by that command's own code, so no
image depends on what others draw.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textual_inversion.studio.children import last_word, progress_in
from textual_inversion.system.checked_json import UnusableJson, parse_json

WAITING, DRAWING, DONE, FAILED, CANCELLED = "waiting", "drawing", "done", "failed", "cancelled"
_MOST_WAITING = 50
_MOST_LINES, _MOST_ANSWER = 400, 1 << 16
_MOST_ENDED = 200  # tickets that are remembered
_CPU_IDLE = 3600.0  # seconds after which a process without work is ended, and its memory given back


class QueueFull(Exception):
    """Too many requests wait."""


@dataclass(eq=False)
class Ticket:
    """One request.

    Attributes:
        words: the arguments of `infer.py`.
        folder: where its images go.
        owner: whose it is; for lists alone.
        state: one of those above.
        lines: what the process printed for it.
        said: how it ended, in its own words.
        asked, begun, ended: moments, in seconds since 1970; 0 where it has not come so far.
    """

    words: list[str]
    folder: Path
    owner: str = ""
    state: str = WAITING
    lines: deque = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    said: str = ""
    asked: float = field(default_factory=time.time)
    begun: float = 0.0
    ended: float = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in (DONE, FAILED, CANCELLED)

    @property
    def progress(self) -> tuple[int, int, str] | None:
        """(done, all, time remaining) in denoising steps; None where nobody knows."""
        return progress_in(list(self.lines))


class DrawQueue:
    """The queue of one page, with its process.

    Args:
        worker: the words that start the process.
        idle: seconds after which a process without work is ended.
    """

    def __init__(self, worker: Sequence[str] | None = None, idle: float = _CPU_IDLE):
        self._worker = list(worker or [sys.executable, "-u", "-m", "textual_inversion.studio.worker"])
        self._idle = idle
        self._waiting: deque[Ticket] = deque()
        self._tickets: deque[Ticket] = deque(maxlen=_MOST_ENDED)
        self._changed = threading.Condition()
        self._process: subprocess.Popen | None = None
        self._drawn: Ticket | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name="draw-queue")
        self._thread.start()

    def ask(self, words: Sequence[str], folder: Path, owner: str = "") -> Ticket:
        """Put a request at the end of the queue.

        Raises:
            QueueFull: too many wait.
        """
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                raise QueueFull(f"{len(self._waiting)} requests wait already; try again later")
            ticket = Ticket(list(words), folder, owner)
            self._waiting.append(ticket)
            self._tickets.append(ticket)
            self._changed.notify_all()
        return ticket

    def place(self, ticket: Ticket) -> int:
        """How many requests are before this one, that which is being drawn included; 0: it is being drawn, or over."""
        with self._changed:
            if ticket not in self._waiting:
                return 0
            return self._waiting.index(ticket) + (self._drawn is not None)

    def open_tickets(self) -> list[Ticket]:
        """Requests that are not over, the first one first."""
        with self._changed:
            return [one for one in self._tickets if not one.is_over]

    def cancel(self, ticket: Ticket) -> None:
        """Take a request out of the queue, or end it where it is being drawn; its images so far stay."""
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                self._end(ticket, CANCELLED, "")
            elif ticket is self._drawn and self._process is not None:
                ticket.state = CANCELLED
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)

    @property
    def process_id(self) -> int | None:
        """The id of the process that draws; None: there is none at present."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """End the process."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._let_go()

    # ------------------------------------------------------------------------------------------------- in the thread

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    if not self._changed.wait(timeout=self._idle):
                        self._let_go()
                if self._is_closed:
                    return
                ticket = self._drawn = self._waiting.popleft()
                ticket.state, ticket.begun = DRAWING, time.time()
            try:
                self._draw(ticket)
            except (OSError, ValueError) as error:
                self._let_go()
                self._end(ticket, FAILED, f"error: the process that draws could not be used ({error})")
            finally:
                self._drawn = None

    def _draw(self, ticket: Ticket) -> None:
        process = self._started()
        process.stdin.write(json.dumps({"words": ticket.words}).encode() + b"\n")
        process.stdin.flush()
        while line := process.stdout.readline(_MOST_ANSWER):
            try:
                answer = parse_json(line)
            except UnusableJson:
                continue
            if isinstance(answer, dict) and "status" in answer:
                self._finish(ticket, answer["status"])
                return
        process.wait()
        process.stdout.close()
        self._let_go()
        time.sleep(0.2)  # its last lines may still be on their way
        said = last_word(list(ticket.lines))
        status = process.returncode
        cause = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        self._end(ticket, FAILED, f"the process that draws ended with {cause}" + (f": {said}" if said else ""))

    def _finish(self, ticket: Ticket, status: int) -> None:
        time.sleep(0.05)  # what was printed comes by another way
        state = DONE if status == 0 else CANCELLED if ticket.state == CANCELLED else FAILED
        self._end(ticket, state, last_word(list(ticket.lines)))

    def _end(self, ticket: Ticket, state: str, said: str) -> None:
        ticket.said, ticket.ended = said, time.time()
        ticket.state = state

    def _started(self) -> subprocess.Popen:
        if self._process is None or self._process.poll() is not None:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            # A session of its own: Ctrl+C at the page's terminal must not end it in the middle.
            self._process = subprocess.Popen(self._worker, start_new_session=True, env=_environment(), **pipes)
            threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return self._process

    def _listen(self, process: subprocess.Popen) -> None:
        with process.stderr:
            for raw in process.stderr:
                ticket = self._drawn
                if ticket is not None:
                    ticket.lines.append(raw[:2000].decode("utf-8", "replace").rstrip())

    def _let_go(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
        threading.Thread(target=process.wait, daemon=True).start()  # nobody else asks how it ended
        if self._drawn is None:
            process.stdout.close()


def _environment() -> dict[str, str]:
    """The process finds this library however the page was started."""
    from textual_inversion.system.paths import ROOT

    paths = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
