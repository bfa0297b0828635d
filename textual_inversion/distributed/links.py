"""Connections between the processes of a run, for what must be known at once: who is there, and who is gone.

Rank 0 listens (`Hub`), every other rank holds one connection to it (`Spoke`), and a thread on either side waits for
what comes. Nothing is sent while all is well. When a process ends, however it ends, its system closes the connection;
when a whole machine or the network falls silent, the probes of TCP find out after `SILENCE` seconds. The systems answer
those probes themselves, so a process that computes, swaps or is held by a debugger for an hour is not taken for lost.

Messages are lines of JSON. Whoever connects first says which run and rank it is of, and strangers are sent away.
"""

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable

from textual_inversion.system import signals

SILENCE = 25  # seconds until a machine that does not answer counts as lost
_PROBES = 4  # in that time, after the first pause
_LONGEST = 16_384  # bytes of a message
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS, _LONGEST_RETRY = 0.05, 5.0  # between two attempts: ever more
_PORT_SECONDS = 2.0  # a port may be taken for a moment, such as by a connection that got it as its own end


class Connection:
    """Messages over a socket, in both directions."""

    def __init__(self, open_socket: socket.socket):
        self.rank: int | None = None  # of the other end; None: it has not greeted yet
        self._socket, self._rest, self._lock = open_socket, b"", threading.Lock()
        open_socket.settimeout(None)
        _probe(open_socket)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: dict) -> None:
        """Send a message; where the other end is gone, that is found by who reads."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict] | None:
        """Wait for bytes; returns the messages that they complete, None where there will be no more."""
        try:
            received = self._socket.recv(_LONGEST)
            *lines, self._rest = (self._rest + received).split(b"\n")
            messages = [json.loads(line) for line in lines]
        except (OSError, ValueError):
            return None
        sound = received and len(self._rest) <= _LONGEST and all(isinstance(message, dict) for message in messages)
        return messages if sound else None

    def close(self) -> None:
        """Close it, after what was sent; whoever waits in `receive` is released."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Hub:
    """Rank 0's end of all connections.

    Args:
        address: where to listen.
        greeting: what is said to those who come; its "run" names the run.
        world_size: ranks of the run.
        heard: called in the thread with (rank, message); the first message is the greeting.
        gone: called in the thread with the rank whose connection has ended.

    Raises:
        OSError: nothing can listen there.
    """

    def __init__(self, address: tuple[str, int], greeting: dict, world_size: int, heard: Callable, gone: Callable):
        self._greeting, self._world_size, self._heard, self._gone = greeting, world_size, heard, gone
        self._listener = _listen(address)
        self._connections: dict[int, Connection] = {}
        self._closed = False

    def start(self) -> None:
        """Begin to watch."""
        _start(self._watch)

    @property
    def connected(self) -> set[int]:
        """The ranks that have come, those that have gone since included."""
        return set(self._connections)

    def send(self, message: dict) -> None:
        """Tell all ranks."""
        for connection in list(self._connections.values()):
            connection.send(message)

    def close(self) -> None:
        """Leave; the others see the connections end."""
        self._closed = True
        self._listener.close()
        for connection in list(self._connections.values()):
            connection.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in selector.select():
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif not self._read(key.fileobj):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            selector.register(Connection(self._listener.accept()[0]), selectors.EVENT_READ)
        except (OSError, ValueError):  # it has gone again, or no more files may be opened
            time.sleep(_RETRY_SECONDS)

    def _read(self, connection: Connection) -> bool:
        """Hear what has come; False where the connection is at its end."""
        messages = connection.receive()
        if messages and connection.rank is None and not self._welcome(connection, messages[0]):
            return False
        for message in messages or ():
            self._heard(connection.rank, message)
        if messages is None and connection.rank is not None:
            self._gone(connection.rank)
        return messages is not None

    def _welcome(self, connection: Connection, greeting: dict) -> bool:
        rank = greeting.get("rank")
        known = type(rank) is int and 0 < rank < self._world_size and rank not in self._connections
        if not known or greeting.get("run") != self._greeting["run"]:
            return False
        connection.rank = rank
        connection.send(self._greeting)
        self._connections[rank] = connection
        return True


class Spoke:
    """Another rank's end of its connection to rank 0, which may come later; arguments as `Hub`'s."""

    def __init__(self, address: tuple[str, int], greeting: dict, heard: Callable, gone: Callable):
        self._address, self._greeting, self._heard, self._gone = address, greeting, heard, gone
        self._connection: Connection | None = None

    def start(self) -> None:
        """Begin to look for rank 0, and then to watch."""
        _start(self._watch)

    @property
    def connected(self) -> set[int]:
        """{0} where rank 0 has answered."""
        return set() if self._connection is None else {0}

    def send(self, message: dict) -> None:
        """Tell rank 0."""
        if self._connection is not None:
            self._connection.send(message)

    def close(self) -> None:
        """Leave; rank 0 sees the connection end."""
        if self._connection is not None:
            self._connection.close()

    def _watch(self) -> None:
        pause = _RETRY_SECONDS
        while not self._connect():
            time.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_RETRY)
        while (messages := self._connection.receive()) is not None:
            for message in messages:
                self._heard(0, message)
        self._gone(0)

    def _connect(self) -> bool:
        """Whether rank 0 has answered; it may not be there yet, or something else may stand in its place."""
        try:
            connection = Connection(socket.create_connection(self._address, timeout=_CONNECT_SECONDS))
        except OSError:
            return False
        connection.send(self._greeting)
        first, *others = connection.receive() or [{}]  # rank 0 may be busy with an import: no limit
        # On one machine a port that nobody listens at may be reached from itself: then this is our own greeting.
        if first.get("run") != self._greeting["run"] or first.get("rank") != 0:
            connection.close()
            return False
        self._connection = connection
        for message in [first, *others]:
            self._heard(0, message)
        return True


def _listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket, at this address alone where the machine knows it as its own."""
    end = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            return socket.create_server(address)
        except OSError:
            with contextlib.suppress(OSError):
                return socket.create_server(("", address[1]))
            if time.monotonic() > end:
                raise
            time.sleep(_RETRY_SECONDS)


def _probe(open_socket: socket.socket) -> None:
    """Let the system look every few seconds whether the other machine still answers, as far as it can."""
    pause = max(1, SILENCE // (_PROBES + 1))
    open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {
        "TCP_KEEPIDLE": pause,
        "TCP_KEEPALIVE": pause,  # macOS's name for it
        "TCP_KEEPINTVL": pause,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": SILENCE * 1000,  # for what was sent and not acknowledged, which no probe follows
    }
    for name, value in wanted.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                open_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _start(watch: Callable[[], None]) -> None:
    with signals.blocked():
        threading.Thread(target=watch, daemon=True).start()
