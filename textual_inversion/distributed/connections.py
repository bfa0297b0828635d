"""TCP connections between the processes of a run, through which each learns at once that another one has ended.

Rank 0 listens (`Hub`), every other rank holds one connection to it (`Spoke`), and a thread on each side waits for
messages. Nothing is sent while all is well. When a process ends, however it ends, its system closes the connection.
When a whole machine or the network falls silent, TCP keep-alive probes find out after `sockets.SILENCE` seconds. The
systems answer those probes themselves, so a process that computes, swaps or is stopped in a debugger for an hour
doesn't count as lost.

Anybody can connect. Whoever does is a stranger until it has proved that it knows the run's secret (see `messages`), and
rank 0 proves the same in turn. A stranger who greets as a rank may say that it is ready, which makes others wait less
long, and nothing else: it is not heard, is not missed when it goes, and keeps no rank out. Strangers are sent away when
they say nothing, say anything else, take too long, or become too many. The secret may become known to a rank only after
it has connected.
"""

import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

from textual_inversion.distributed.messages import Message, is_proof, proof
from textual_inversion.distributed.sockets import Connection, listen
from textual_inversion.system import signals
from textual_inversion.system.errors import one_line
from textual_inversion.system.progress import print_line

_CONNECT_SECONDS = 5.0
_RETRY_SECONDS, _MAX_RETRY_SECONDS = 0.05, 5.0  # pauses between attempts, growing
_GREETING_SECONDS = 10.0  # in which a stranger must have greeted
_PROOF_SECONDS = 900.0  # in which it must have proved itself; until then it may import paddle and wait for others
_MOST_STRANGERS = 64  # beside one for each rank; beyond that the oldest is sent away

Heard = Callable[[int, Message], None]
Gone = Callable[[int], None]


class Hub:
    """Rank 0's end of all connections.

    Args:
        address: (host, port) to listen at.
        greeting: sent to each rank that connects; its "run" identifies the run.
        world_size: ranks of the run.
        secret: what ranks must prove that they know.
        heard: called in the thread with (rank, message); a rank's first message is its greeting, after its proof.
            Before that, {} tells that somebody greets as the rank, and {"ready": True} is handed on.
        gone: called in the thread with the rank whose connection has ended.

    Raises:
        OSError: the address cannot be listened at.
    """

    def __init__(
        self, address: tuple[str, int], greeting: Message, world_size: int, secret: str, heard: Heard, gone: Gone
    ):
        self._greeting, self._world_size, self._secret = greeting, world_size, secret
        self._heard, self._gone = heard, gone
        self._listener = listen(address)
        self._connections: dict[int, Connection] = {}
        self._strangers: dict[Connection, None] = {}  # in the order in which they came
        self._closed = False

    def start(self) -> None:
        """Start the thread that watches the connections."""
        _start(self._watch, lambda: self._closed)

    @property
    def connected(self) -> set[int]:
        """The ranks that have proved themselves, including those that have gone since."""
        return set(self._connections)

    @property
    def present(self) -> set[int]:
        """The ranks as which somebody has greeted and stayed, whoever it is."""
        return self.connected | {stranger.greeting["rank"] for stranger in list(self._strangers) if stranger.greeting}

    def send(self, message: Message) -> None:
        """Send a message to all ranks."""
        for connection in list(self._connections.values()):
            connection.send(message)

    def send_start(self) -> None:
        """Tell all who have greeted as a rank that the run starts."""
        self.send({"start": True})
        for stranger in list(self._strangers):
            if stranger.greeting:
                stranger.send_at_once({"start": True})

    def close(self) -> None:
        """Close all connections, which the other ranks see."""
        self._closed = True
        self._listener.close()
        for connection in [*self._connections.values(), *list(self._strangers)]:
            connection.close()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._closed:
                for key, _ in selector.select(_RETRY_SECONDS + 1 if self._strangers else None):
                    if key.fileobj is self._listener:
                        self._accept(selector)
                    elif key.fileobj.fileno() >= 0 and not self._has_read(key.fileobj):
                        self._drop(selector, key.fileobj)
                self._send_away(selector)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        try:
            connection = Connection(self._listener.accept()[0])
            selector.register(connection, selectors.EVENT_READ)
            self._strangers[connection] = None
        except (OSError, ValueError):  # the other end has closed already, or no more files can be opened
            time.sleep(_RETRY_SECONDS)

    def _send_away(self, selector: selectors.BaseSelector) -> None:
        """Close the connections of strangers who take too long, and of the oldest where there are too many."""
        now, strangers = time.monotonic(), list(self._strangers)
        too_many = strangers[: max(0, len(strangers) - self._world_size - _MOST_STRANGERS)]
        for stranger in strangers:
            patience = _PROOF_SECONDS if stranger.greeting else _GREETING_SECONDS
            if stranger in too_many or now - stranger.since > patience:
                self._drop(selector, stranger)

    def _drop(self, selector: selectors.BaseSelector, connection: Connection) -> None:
        self._strangers.pop(connection, None)
        selector.unregister(connection)
        connection.close()

    def _has_read(self, connection: Connection) -> bool:
        """As `_read`; a fault in what is done about a message ends its connection, not the watch."""
        try:
            return self._read(connection)
        except Exception as error:
            if self._closed:
                raise
            print_line(f"warning: a message to the watch for lost processes failed: {one_line(error)}", sys.stderr)
            return False

    def _read(self, connection: Connection) -> bool:
        """Handle what was received; False when the connection has ended or is refused."""
        received = connection.receive()
        for message in received or ():
            if connection.rank is not None:
                self._heard(connection.rank, message)
            elif not self._is_welcome(connection, message):
                return False
        if received is None and connection.rank is not None:
            self._gone(connection.rank)
        return received is not None

    def _is_welcome(self, connection: Connection, message: Message) -> bool:
        """Handle what a stranger says: a greeting, that it is ready, a proof; False for anything else."""
        if connection.greeting is None:
            return self._greet(connection, message)
        rank = connection.greeting["rank"]
        if message == {"ready": True}:
            self._heard(rank, message)
            return True
        numbers = (rank, rank, connection.greeting["nonce"], connection.nonce)
        if rank in self._connections or not is_proof(message.get("proof"), self._secret, *numbers):
            return False
        connection.rank = rank
        self._strangers.pop(connection)
        self._connections[rank] = connection
        connection.send({"proof": proof(self._secret, 0, *numbers[1:])})
        self._heard(rank, {key: value for key, value in connection.greeting.items() if key != "nonce"})
        return True

    def _greet(self, connection: Connection, greeting: Message) -> bool:
        """Greet a stranger who greets as a rank that has not proved itself yet."""
        rank = greeting.get("rank")
        is_expected = rank is not None and 0 < rank < self._world_size and rank not in self._connections
        if not is_expected or greeting.get("run") != self._greeting["run"] or "nonce" not in greeting:
            return False
        connection.greeting = greeting
        connection.send_at_once({**self._greeting, "nonce": connection.nonce})
        self._heard(rank, {})
        return True


class Spoke:
    """Another rank's end of its connection to rank 0, which may start later.

    Args:
        secret: as for `Hub`; None: it will be told by `learn`.

    The other arguments are those of `Hub`. {"start": True} is heard from whoever answers at the address.
    """

    def __init__(
        self, address: tuple[str, int], greeting: Message, heard: Heard, gone: Gone, secret: str | None = None
    ):
        self._address, self._greeting, self._heard, self._gone = address, greeting, heard, gone
        self._secret = secret
        self._connection: Connection | None = None
        self._is_proved = self._is_ready = self._closed = False
        self._lock = threading.Lock()  # of the connection and what was said through it

    def start(self) -> None:
        """Start the thread that connects to rank 0 and then watches the connection."""
        _start(self._watch, lambda: self._closed)

    def learn(self, secret: str) -> None:
        """Prove to rank 0, now or once it is reached, that this rank knows the secret."""
        with self._lock:
            if not self._is_proved and secret != self._secret:
                self._secret = secret
                self._prove()

    @property
    def connected(self) -> set[int]:
        """{0} once rank 0 has proved itself."""
        return {0} if self._is_proved else set()

    @property
    def present(self) -> set[int]:
        """{0} while somebody answers as rank 0."""
        connection = self._connection
        return {0} if self._is_proved or (connection is not None and connection.greeting) else set()

    def send(self, message: Message) -> None:
        """Send a message to rank 0; before it has proved itself only that this rank is ready, which is said again."""
        with self._lock:
            self._is_ready |= "ready" in message
            if self._connection is not None and (self._is_proved or self._may_hear(message)):
                self._connection.send(message)

    def _may_hear(self, message: Message) -> bool:
        return "ready" in message and self._connection.greeting is not None

    def close(self) -> None:
        """Close the connection, which rank 0 sees."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    def _watch(self) -> None:
        pause = _RETRY_SECONDS
        while not self._closed:
            if self._connect():
                self._listen_to()
                if self._is_proved:
                    self._gone(0)
                    return
            time.sleep(pause)
            pause = min(1.5 * pause, _MAX_RETRY_SECONDS)

    def _connect(self) -> bool:
        """Try to reach rank 0, which may not listen yet; another program may use its port."""
        try:
            connection = Connection(socket.create_connection(self._address, timeout=_CONNECT_SECONDS))
        except OSError:
            return False
        connection.send({**self._greeting, "nonce": connection.nonce})
        with self._lock:
            self._connection = connection
        return True

    def _listen_to(self) -> None:
        """Hear what comes through the connection until it ends; rank 0 may be busy with an import: no time limit."""
        connection = self._connection
        while (received := connection.receive()) is not None:
            if not all(self._take(connection, message) for message in received):
                break
        connection.close()
        if not self._is_proved:
            with self._lock:
                self._connection = None

    def _take(self, connection: Connection, message: Message) -> bool:
        """Handle a message; False where it is none that may come now."""
        if self._is_proved or message == {"start": True}:
            self._heard(0, message)
            return True
        if connection.greeting is None:
            return self._is_greeted(connection, message)
        rank, numbers = self._greeting["rank"], (connection.nonce, connection.greeting["nonce"])
        if self._secret is None or not is_proof(message.get("proof"), self._secret, 0, rank, *numbers):
            return False
        self._is_proved = True
        self._heard(0, {key: value for key, value in connection.greeting.items() if key != "nonce"})
        return True

    def _is_greeted(self, connection: Connection, greeting: Message) -> bool:
        """Take rank 0's greeting, and prove that this rank belongs to the run if it can already.

        On one machine, a connection to a port that nobody listens at may reach itself: then this is our own greeting.
        """
        is_hub = greeting.get("run") == self._greeting["run"] and greeting.get("rank") == 0 and "nonce" in greeting
        if not is_hub:
            return False
        with self._lock:
            connection.greeting = greeting
            if self._is_ready:
                connection.send({"ready": True})
            self._prove()
        self._heard(0, {})
        return True

    def _prove(self) -> None:
        connection, rank = self._connection, self._greeting["rank"]
        if self._secret is not None and connection is not None and connection.greeting:
            numbers = (connection.nonce, connection.greeting["nonce"])
            connection.send({"proof": proof(self._secret, rank, rank, *numbers)})


def _start(watch: Callable[[], None], is_closed: Callable[[], bool]) -> None:
    """Start a thread that watches; if it ever ends by an error, it says so."""

    def run() -> None:
        try:
            watch()
        except Exception as error:
            if not is_closed():
                reason = one_line(f"{type(error).__name__}: {error}")
                print_line(
                    f"warning: the watch for lost processes has ended ({reason}): if a process dies, others may wait "
                    "for it for a long time",
                    sys.stderr,
                )

    with signals.blocked():
        threading.Thread(target=run, daemon=True).start()
