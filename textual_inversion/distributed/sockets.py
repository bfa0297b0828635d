"""Sockets between the processes of a run: messages in both directions, and probes that find a silent machine."""

import contextlib
import socket
import threading
import time

from textual_inversion.distributed import messages
from textual_inversion.distributed.messages import Message, nonce

SILENCE = 25  # seconds until a machine that does not answer counts as lost
_PROBES = 4  # in that time, after the first pause
_PORT_SECONDS = 2.0  # a port may be taken for a moment, such as by a connection that uses it as its own end
_RETRY_SECONDS = 0.05


class Connection:
    """Messages over a socket, in both directions.

    Attributes:
        rank: of the other end, once it has proved itself; until then None.
        greeting: what the other end has said about itself, None before that.
        nonce: drawn for this connection, for the other end's proof.
        since: when it was opened, in seconds of a monotonic clock.
    """

    def __init__(self, open_socket: socket.socket):
        self.rank: int | None = None
        self.greeting: Message | None = None
        self.nonce, self.since = nonce(), time.monotonic()
        self._socket, self._rest, self._lock = open_socket, b"", threading.Lock()
        open_socket.settimeout(None)
        _set_probes(open_socket)

    def fileno(self) -> int:
        """The socket's file descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: Message) -> None:
        """Send a message. If the other end is gone, `receive` finds out."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(messages.written(message))

    def send_at_once(self, message: Message) -> None:
        """Send a message to a stranger, who may not read it: what does not fit into the system's buffer is lost."""
        with self._lock, contextlib.suppress(OSError):
            self._socket.send(messages.written(message), getattr(socket, "MSG_DONTWAIT", 0))

    def receive(self) -> list[Message] | None:
        """Wait for bytes and return the messages that they complete; None when no more will come, or none is valid."""
        try:
            received = self._socket.recv(messages.MAX_BYTES)
            *lines, self._rest = (self._rest + received).split(b"\n")
            found = [messages.read(line) for line in lines]
        except (OSError, ValueError):
            return None
        return found if received and len(self._rest) <= messages.MAX_BYTES else None

    def close(self) -> None:
        """Close the socket after everything was sent; a thread that waits in `receive` returns."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def listen(address: tuple[str, int]) -> socket.socket:
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
