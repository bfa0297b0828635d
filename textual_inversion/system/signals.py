"""SIGTERM, SIGINT and SIGHUP end a run in an orderly way, and so does a reader of its output that goes away.

During a training step, a signal is only noted; the loop ends after the step and writes a checkpoint. Everywhere else
(at the start, while images are drawn, at the end) nothing would be gained by waiting, so `Stopped` is raised at once. A
second SIGINT ends the process immediately, and so does a second SIGTERM or SIGHUP, but only after `GRACE` seconds:
launchers repeat SIGTERM within a second.

SIGHUP comes when a terminal is closed. Where it is ignored from the start, as under `nohup`, it stays ignored. The loss
of a reader (`| head`) counts as SIGPIPE, which itself stays ignored: it would come for broken network connections too.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from textual_inversion.system import streams
from textual_inversion.system.errors import Stopped

GRACE = 5.0  # seconds
_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_NUMBERS = tuple(number for number in (signal.SIGTERM, signal.SIGINT, _HANGUP) if number is not None)
_NO_READER = 13  # SIGPIPE


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block these signals in this thread inside the block; threads that are started inside never receive them.

    For native calls that treat an interrupted wait as an error, as Paddle's key-value store does, and for threads that
    must leave signals to the main thread, which may hold them back.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Signals:
    """A context manager that handles the signals; outside the main thread it changes nothing.

    Args:
        clock: monotonic, in seconds.

    Attributes:
        received: the number of the first signal, or None.
        agreed: whether the processes of this run have agreed to end after the current step.
        advice: the rest of the line that reports the end, after the signal's name; None: another process reports it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.received: int | None = None
        self.agreed = False
        self.advice: str | None = "before the first step; no checkpoint was written"
        self._clock, self._first_at = clock, {}
        self._waits = False
        self._before: dict = {}
        self._listening = contextlib.ExitStack()

    def __enter__(self) -> "Signals":
        self.install()
        self._listening.enter_context(streams.listening(self._reader_is_gone))
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Install the handlers. To be called again after code that may have replaced them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            before = signal.getsignal(number)
            self._before.setdefault(number, signal.SIG_DFL if before is None else before)
            if number != _HANGUP or self._before[number] != signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold SIGTERM and SIGHUP back inside the block, and install the handlers again at its end.

        Paddle sets a handler of its own when it is imported, and paddlenlp sets the system's. Only signals to this
        thread are held back: at the start of a run there is no other thread.
        """
        held = {number for number in _NUMBERS if number != signal.SIGINT}
        can_hold = hasattr(signal, "pthread_sigmask") and threading.current_thread() is threading.main_thread()
        if can_hold:
            signal.pthread_sigmask(signal.SIG_BLOCK, held)
        try:
            yield
        finally:
            self.install()
            if can_hold:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, held)

    def wait_for_the_step(self) -> None:
        """From now on a signal is only noted."""
        self._waits = True

    def wait_no_longer(self) -> None:
        """From now on a signal ends the run at once, and so does one that was noted already."""
        self._waits = False
        if self.received is not None:
            raise self.stopped()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal ends the run at once inside the block: for work that can be repeated."""
        waited = self._waits
        try:
            self.wait_no_longer()
            yield
        finally:
            self._waits = waited

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Only note a signal inside the block; at its end, end the run if a signal would have ended it outside.

        For work that several processes do together, so that none of them leaves halfway.
        """
        waited, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = waited
        if not waited:
            self.wait_no_longer()

    def stopped(self) -> Stopped:
        """The exception to raise, with its message."""
        number = self.received if self.received is not None else signal.SIGTERM  # else another process received one
        if self.advice is None:
            return Stopped(number)
        if number == _NO_READER:
            return Stopped(number, f"stopped because nobody reads its output any more, {self.advice}")
        return Stopped(number, f"stopped by {signal.Signals(number).name} {self.advice}")

    def _reader_is_gone(self) -> None:
        # Another thread cannot end the run; the main thread does so after its step.
        self._note(_NO_READER, waits=threading.current_thread() is not threading.main_thread())

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        if number in self._first_at:
            if number == signal.SIGINT or now - self._first_at[number] > GRACE:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._first_at[number] = now
        self._note(number)

    def _note(self, number: int, *, waits: bool = False) -> None:
        if self.received is None:
            self.received = number
            if not (waits or self._waits):
                raise self.stopped()
