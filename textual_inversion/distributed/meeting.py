"""Where the processes of a run meet: the launcher's key-value store.

Start-up agreement, the wait for a slow rank, and the moment before a collective operation all go through a
`MeetingPoint`. The store has no time limit, unlike gloo, which gives up after 30 seconds. It doesn't matter in which
order the ranks arrive. Each call on a `MeetingPoint` is one meeting, with a number of its own; all ranks make the same
calls in the same order, so equal numbers name the same meeting.

    wait            return when all ranks have arrived
    go_together     the same, unless a rank is stopping: then no rank proceeds
    hand_out        give all ranks a value of rank 0's, such as a secret, before anything else
    exchange        give all ranks the facts of this one, and get theirs

The watch for lost ranks (`peers`) is separate on purpose. It must work before paddle is imported and the store
exists, and after rank 0, whose process holds the store, is gone. A heartbeat in the store could not tell a process
that is stopped or swapping from one that is dead either; the end of a connection can.

Whoever can reach the store can read and change what is in it: the ports of the launcher want a trusted network.
"""

import json
import platform
import time
from collections.abc import Callable
from typing import Any, Protocol

from textual_inversion.system import signals

_POLL_SECONDS = 0.02
# Parts of the counter of `go_together`, see there.
_LEFT, _CLOSED = 1 << 20, 1 << 40
_GO, _OFF = 1, 2


class Store(Protocol):
    """The part of the launcher's key-value store that is used here. `add` is atomic and returns the new sum."""

    def add(self, key: str, number: int) -> int: ...

    def set(self, key: str, value: str) -> None: ...

    def get(self, key: str) -> bytes: ...


class MeetingPoint:
    """This process's access to the store through which all processes of the run meet.

    Signals are blocked during each request to the store, which would take an interrupted answer for a broken
    connection. Between two requests they arrive.

    Args:
        store: the launcher's key-value store.
        rank: of this process.
        world_size: processes of the run, fewer than 2 ** 20.
        poll_seconds: pause between two requests.
    """

    def __init__(self, store: Store, rank: int, world_size: int, poll_seconds: float = _POLL_SECONDS):
        self._store, self._rank, self._world_size, self._poll_seconds = store, rank, world_size, poll_seconds
        self._meetings = 0

    @classmethod
    def of_launcher(cls, rank: int, world_size: int) -> "MeetingPoint":
        """The meeting point of a run under `python -m paddle.distributed.launch`; connects to the store."""
        from paddle.base.core import create_or_get_global_tcp_store

        return cls(create_or_get_global_tcp_store(), rank, world_size)

    def wait(self) -> None:
        """Return when every rank has called this, however long one of them takes."""
        self._wait(self._next_name())

    def go_together(self, is_stopping: Callable[[], bool]) -> bool:
        """Wait for all ranks and return whether all of them proceed; if not, none does.

        A rank that is stopping (it received a signal) leaves. It must not leave others behind that wait for it in
        native code: no signal reaches them there, and a checkpoint that one of them should write would be lost. So a
        rank may leave while it works or waits here. Once all others have arrived and rank 0 has closed the meeting,
        all proceed.

        The ranks count in two keys of the store:

            NAME            + 1 by each rank other than 0 that arrives
                            + LEFT by a stopping rank, which leaves unless the meeting is closed already
                            + CLOSED by rank 0, when all have arrived, one has left, or rank 0 is stopping itself
            NAME/verdict    GO or OFF, by rank 0, after that

        Args:
            is_stopping: whether this rank has received a signal to stop; a signal must not raise inside this call.
        """
        name = self._next_name()
        if self._rank == 0:
            while self._add(name, 0) < self._world_size - 1 and not is_stopping():
                self._pause()
            goes = self._add(name, _CLOSED) == _CLOSED + self._world_size - 1 and not is_stopping()
            self._add(f"{name}/verdict", _GO if goes else _OFF)
            return goes
        self._add(name, 1)
        wants_to_leave = False
        while not (verdict := self._add(f"{name}/verdict", 0)):
            if is_stopping() and not wants_to_leave:
                wants_to_leave = True
                if self._add(name, _LEFT) < _CLOSED:
                    return False
            self._pause()  # closed already: the verdict is about to come
        return verdict == _GO

    def hand_out(self, value: str | None) -> str:
        """Rank 0's value, on every rank; what the others give does not count."""
        name = self._next_name()
        if self._rank == 0:
            with signals.blocked():
                self._store.set(f"{name}/value", json.dumps(value))
            self._add(name, 1)
            return value
        while not self._add(name, 0):
            self._pause()
        with signals.blocked():
            return json.loads(bytes(self._store.get(f"{name}/value")))

    def exchange(self, facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        """Give all ranks the facts of this one, and return those of all ranks if any differ.

        A request to the store takes a tenth of a second. So each rank asks for rank 0's facts, and for those of all
        ranks only if some differ. Rank 0, whose process holds the store, doesn't leave while another rank reads.

        Args:
            facts: JSON values by name.

        Returns:
            (host, facts) of each rank, in the order of the ranks; [] where all ranks have the same facts.
        """
        name, text = self._next_name(), json.dumps(facts, sort_keys=True)
        with signals.blocked():
            self._store.set(f"{name}/{self._rank}", json.dumps([platform.node(), text]))
        self._wait(f"{name}/written")
        if self._rank and self._read(f"{name}/0")[1] != text:
            self._add(f"{name}/differing", 1)
        self._wait(f"{name}/compared")
        if not self._add(f"{name}/differing", 0):
            return []
        everyone = [self._read(f"{name}/{rank}") for rank in range(self._world_size)]
        self._add(f"{name}/read", 1)
        if self._rank == 0:
            self._wait(f"{name}/read", adds=0)
        return [(host, json.loads(shown)) for host, shown in everyone]

    def _wait(self, name: str, adds: int = 1) -> None:
        """Return when the counter `name`, to which this rank adds `adds`, has reached the number of ranks."""
        count = self._add(name, adds)
        while count < self._world_size:
            self._pause()
            count = self._add(name, 0)

    def _next_name(self) -> str:
        self._meetings += 1
        return f"textual_inversion/meeting/{self._meetings}"

    def _add(self, key: str, number: int) -> int:
        with signals.blocked():
            return self._store.add(key, number)

    def _read(self, key: str) -> tuple[str, str]:
        with signals.blocked():
            host, text = json.loads(bytes(self._store.get(key)))
        return host, text

    def _pause(self) -> None:
        time.sleep(self._poll_seconds)
