"""SIGTERM and SIGINT: a run that is asked to end does so in good order.

While training goes on, a signal is only noted; the loop ends after its step and writes a checkpoint. Everywhere else,
at the start, around pictures and at the end, nothing would be gained by waiting, so `Stopped` is raised at once. A
second SIGINT ends the process on the spot. SIGTERM is repeated by launchers within a second, so its repeats count only
after `GRACE` seconds, and then end the process on the spot too.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

from textual_inversion.system.errors import Stopped

GRACE = 5.0  # seconds
_NUMBERS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Let neither signal reach this thread inside, nor a thread that begins inside for as long as it lives.

    For native calls that take an interrupted wait for an error, as Paddle's key-value store does, and for threads that
    are to leave signals to the main thread, which may hold them back.
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
    """Handles both signals as long as it is entered; outside the main thread they stay as they are.

    Attributes:
        received: the first signal's number, or None.
        agreed: whether the processes of this run have agreed to end after the step that they are in.
        advice: what the line that tells of the end says beside the signal's name; None: no line, another process tells.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.received: int | None = None
        self.agreed = False
        self.advice: str | None = "before the first step; no checkpoint was written"
        self._clock, self._first_at = clock, {}
        self._waits = False
        self._before: dict = {}

    def __enter__(self) -> "Signals":
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals over; again after something that may have taken them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _NUMBERS:
            before = signal.signal(number, self._handle)
            self._before.setdefault(number, signal.SIG_DFL if before is None else before)

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold SIGTERM back inside, and take the signals over again at the end.

        Paddle sets a handler of its own when it is imported, and paddlenlp sets the system's. Held back is what this
        thread would get: at the start of a run there is no other.
        """
        can_hold = hasattr(signal, "pthread_sigmask") and threading.current_thread() is threading.main_thread()
        if can_hold:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            yield
        finally:
            self.install()
            if can_hold:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def wait_for_the_step(self) -> None:
        """From here on a signal is noted only."""
        self._waits = True

    def wait_no_longer(self) -> None:
        """From here on a signal ends the run at once; so does one that is there already."""
        self._waits = False
        if self.received is not None:
            raise self.stopped()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Do not wait inside: for what can be done again."""
        waited = self._waits
        try:
            self.wait_no_longer()
            yield
        finally:
            self._waits = waited

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Only note a signal inside, and end the run at the end if it would have ended at once outside.

        For what several processes do together, and none of them may leave half-way.
        """
        waited, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = waited
        if not waited:
            self.wait_no_longer()

    def stopped(self) -> Stopped:
        """What to raise, with its line."""
        number = self.received if self.received is not None else signal.SIGTERM  # another process was told to end
        if self.advice is None:
            return Stopped(number)
        return Stopped(number, f"stopped by {signal.Signals(number).name} {self.advice}")

    def _handle(self, number: int, _frame) -> None:
        now = self._clock()
        if number in self._first_at:
            if number == signal.SIGINT or now - self._first_at[number] > GRACE:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self._first_at[number] = now
        if self.received is None:
            self.received = number
            if not self._waits:
                raise self.stopped()
