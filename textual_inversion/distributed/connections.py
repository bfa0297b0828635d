"""TCP connections between the processes of a run, through which each learns at once that another one has ended.

Rank 0 listens (`Hub`), every other rank holds one connection to it (`Spoke`), and a thread on each side waits for
messages. Nothing is sent while all is well. When a process ends, however it ends, its system closes the connection.
When a whole machine or the network falls silent, TCP keep-alive probes find out after `SILENCE` seconds. The systems
answer those probes themselves, so a process that computes, swaps or is stopped in a debugger for an hour doesn't
count as lost.

A message is a JSON object on one line. Whoever connects first sends a greeting with the run and rank it belongs to;
all other connections are closed.
"""

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from textual_inversion.system import signals

SILENCE = 25  # seconds until a machine that does not answer counts as lost
_PROBES = 4  # in that time, after the first pause
_MAX_MESSAGE = 16_384  # bytes
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.05, 5.0  # pauses between attempts, growing
_PORT_SECONDS = 2.0  # a port may be taken for a moment, such as by a connection that uses it as its own end

Message = dict[str, Any]
Heard = Callable[[int, Message], None]
Gone = Callable[[int], None]


class Connection:
    """Messages over a socket, in both directions.

    Attributes:
        rank: of the other end; None until its greeting was accepted.
    """

    def __init__(self, open_socket: socket.socket):
        self.rank: int | None = None
        self._socket, self._rest, self._lock = open_socket, b"", threading.Lock()
        open_socket.settimeout(None)
        _set_probes(open_socket)

    def fileno(self) -> int:
        """The socket's file descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send a message. If the other end is gone, `receive` finds out."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """Wait for bytes and return the messages that they complete; None when no more will come."""
        try:
            received = self._socket.recv(_MAX_MESSAGE)
            *lines, self._rest = (self._rest + received).split(b"\n")
            messages = [json.loads(line) for line in lines]
        except (OSError, ValueError):
            return None
        is_valid = received and len(self._rest) <= _MAX_MESSAGE and all(isinstance(m, dict) for m in messages)
        return messages if is_valid else None

    def close(self) -> None:
        """Close the socket after everything was sent; a thread that waits in `receive` returns."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Hub:
    """Rank 0's end of all connections.

    Args:
        address: (host, port) to listen at.
        greeting: sent to each rank that connects; its "run" identifies the run.
        world_size: ranks of the run.
        heard: called in the thread with (rank, message); a rank's first message is its greeting.
        gone: called in the thread with the rank whose connection has ended.

    Raises:
        OSError: the address cannot be listened at.
    """

    def __init__(self, address: tuple[str, int], greeting: Message, world_size: int, heard: Heard, gone: Gone):
        self._greeting, self._world_size, self._heard, self._gone = greeting, world_size, heard, gone
        self._listener = _listen(address)
        self._connections: dict[int, Connection] = {}
        self._closed = False

    def start(self) -> None:
        """Start the thread that watches the connections."""
        _start(self._watch)

    @property
    def connected(self) -> set[int]:
        """The ranks that have connected, including those that have gone since."""
        return set(self._connections)

    def send(self, message: Message) -> None:
        """Send a message to all ranks."""
        for connection in list(self._connections.values()):
            connection.send(message)

    def close(self) -> None:
        """Close all connections, which the other ranks see."""
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
        except (OSError, ValueError):  # the other end has closed already, or no more files can be opened
            time.sleep(_RETRY_SECONDS)

    def _read(self, connection: Connection) -> bool:
        """Handle what was received; False when the connection has ended or is refused."""
        messages = connection.receive()
        if messages and connection.rank is None and not self._welcome(connection, messages[0]):
            return False
        for message in messages or ():
            self._heard(connection.rank, message)
        if messages is None and connection.rank is not None:
            self._gone(connection.rank)
        return messages is not None

    def _welcome(self, connection: Connection, greeting: Message) -> bool:
        """Accept a rank of this run that isn't connected yet, and greet it in turn."""
        rank = greeting.get("rank")
        is_expected = type(rank) is int and 0 < rank < self._world_size and rank not in self._connections
        if not is_expected or greeting.get("run") != self._greeting["run"]:
            return False
        connection.rank = rank
        connection.send(self._greeting)
        self._connections[rank] = connection
        return True


class Spoke:
    """Another rank's end of its connection to rank 0, which may start later. Arguments as for `Hub`."""

    def __init__(self, address: tuple[str, int], greeting: Message, heard: Heard, gone: Gone):
        self._address, self._greeting, self._heard, self._gone = address, greeting, heard, gone
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the thread that connects to rank 0 and then watches the connection."""
        _start(self._watch)

    @property
    def connected(self) -> set[int]:
        """{0} once rank 0 has answered."""
        return set() if self._connection is None else {0}

    def send(self, message: Message) -> None:
        """Send a message to rank 0."""
        if self._connection is not None:
            self._connection.send(message)

    def close(self) -> None:
        """Close the connection, which rank 0 sees."""
        if self._connection is not None:
            self._connection.close()

    def _watch(self) -> None:
        pause = _RETRY_SECONDS
        while not self._connect():
            time.sleep(pause)
            pause = min(1.5 * pause, _MAX_RETRY_SECONDS)
        while (messages := self._connection.receive()) is not None:
            for message in messages:
                self._heard(0, message)
        self._gone(0)

    def _connect(self) -> bool:
        """Try to reach rank 0, which may not listen yet; another program may use its port."""
        try:
            connection = Connection(socket.create_connection(self._address, timeout=_CONNECT_SECONDS))
        except OSError:
            return False
        connection.send(self._greeting)
        first, *others = connection.receive() or [{}]  # rank 0 may be busy with an import: no time limit
        # On one machine, a connection to a port that nobody listens at may reach itself: then this is our own greeting.
        if first.get("run") != self._greeting["run"] or first.get("rank") != 0:
            connection.close()
            return False
        self._connection = connection
        for message in [first, *others]:
            self._heard(0, message)
        return True


def _listen(address: tuple[str, int]) -> socket.socket:
    """A listening socket at this address alone, or at all addresses if the machine doesn't know this one as its own."""
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


def _set_probes(open_socket: socket.socket) -> None:
    """Let the system check every few seconds whether the other machine still answers, as far as it can."""
    pause = max(1, SILENCE // (_PROBES + 1))
    open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": pause,
        "TCP_KEEPALIVE": pause,  # its name on macOS
        "TCP_KEEPINTVL": pause,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": SILENCE * 1000,  # for data that was sent and not acknowledged, which no probe follows
    }
    for name, value in options.items():
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                open_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _start(watch: Callable[[], None]) -> None:
    with signals.blocked():
        threading.Thread(target=watch, daemon=True).start()
