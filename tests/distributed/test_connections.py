"""The connections themselves: messages, whoever comes, and whoever goes."""

import queue
import socket
import threading
import time

import pytest

from helpers.node_runs import free_port
from textual_inversion.distributed import connections, sockets
from textual_inversion.distributed.connections import Hub, Spoke
from textual_inversion.distributed.sockets import Connection

WAIT, SECRET = 20, "s" * 32


class Heard:
    """What a link has reported, in order."""

    def __init__(self):
        self._events = queue.Queue()

    def heard(self, rank, message):
        self._events.put((rank, message))

    def gone(self, rank):
        self._events.put((rank, "gone"))

    def next(self):
        """The next event that is more than somebody's presence."""
        while not (event := self._events.get(timeout=WAIT))[1]:
            pass
        return event


@pytest.fixture
def ends():
    """A hub for three ranks, and functions that make and hear spokes; all closed afterwards."""
    address, made = ("127.0.0.1", free_port()), []

    def hub():
        at_hub = Heard()
        made.append(Hub(address, {"run": "r", "rank": 0}, 3, SECRET, at_hub.heard, at_hub.gone))
        made[-1].start()
        return made[-1], at_hub

    def spoke(rank, run="r", secret=SECRET):
        at_spoke = Heard()
        made.append(Spoke(address, {"run": run, "rank": rank}, at_spoke.heard, at_spoke.gone, secret))
        made[-1].start()
        return made[-1], at_spoke

    yield hub, spoke, address
    for link in made:
        link.close()


def test_messages_come_in_order_in_both_directions_however_they_are_cut():
    left, right = socket.socketpair(socket.AF_UNIX)
    one, other = Connection(left), Connection(right)
    one.send({"log": "ä" * 1000})
    one.send({"status": None, "rank": 1, "host": "h", "log": ""})
    one.close()

    found = []
    while (messages := other.receive()) is not None:
        found += messages
    assert found == [{"log": "ä" * 1000}, {"status": None, "rank": 1, "host": "h", "log": ""}]
    other.send({"ready": True})  # which nobody reads, is no error


def test_a_rank_may_come_before_the_hub_and_each_hears_the_others_greeting_and_end(ends):
    hub, spoke, _ = ends
    one, at_one = spoke(1)
    time.sleep(0.2)
    assert one.connected == set()
    center, at_hub = hub()

    assert at_one.next() == (0, {"run": "r", "rank": 0}) and at_hub.next() == (1, {"run": "r", "rank": 1})
    assert one.connected == {0} and center.connected == {1}
    one.send({"rank": 1})
    assert at_hub.next() == (1, {"rank": 1})
    center.send({"start": True})
    assert at_one.next() == (0, {"start": True})
    one.close()
    assert at_hub.next() == (1, "gone")


def test_a_second_one_of_the_same_rank_or_of_another_run_is_sent_away(ends):
    hub, spoke, _ = ends
    center, at_hub = hub()
    _, at_one = spoke(1)
    assert at_hub.next()[0] == 1 and at_one.next()[0] == 0

    twin, _ = spoke(1)
    stranger, _ = spoke(2, run="other")
    outside, _ = spoke(3)
    time.sleep(0.5)

    assert center.connected == {1} and not twin.connected | stranger.connected | outside.connected
    center.send({"ready": True})
    assert at_one.next() == (0, {"ready": True})


def test_a_port_that_answers_as_its_own_caller_is_not_rank_0(ends):
    """What a connection to a free port of one's own machine may come to."""
    _, spoke, address = ends
    with socket.create_server(address) as listener:
        one, _ = spoke(1)
        caller, _ = listener.accept()
        caller.sendall(caller.recv(1000))
        assert caller.recv(1000) == b""  # hung up
        caller.close()
    assert one.connected == set()


def test_a_port_that_stays_taken_is_an_error(monkeypatch):
    monkeypatch.setattr(sockets, "_PORT_SECONDS", 0.1)
    with socket.create_server(("", 0)) as taken, pytest.raises(OSError):
        Hub(("127.0.0.1", taken.getsockname()[1]), {"run": "r"}, 2, SECRET, None, None)


def test_a_port_that_is_taken_for_a_moment_is_waited_for():
    taken = socket.create_server(("", 0))
    threading.Timer(0.3, taken.close).start()
    hub = Hub(("127.0.0.1", taken.getsockname()[1]), {"run": "r"}, 2, SECRET, None, None)
    hub.close()


def test_probes_find_a_silent_machine_within_the_time_that_is_promised():
    left, right = socket.socket(), socket.socket()
    Connection(left)
    values = [left.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{n}")) for n in ("IDLE", "INTVL", "CNT")]
    assert left.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert values[0] + values[1] * values[2] <= sockets.SILENCE < 30
    assert left.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == sockets.SILENCE * 1000
    left.close(), right.close()


def test_a_rank_that_learns_the_secret_later_is_present_and_may_be_ready_but_is_not_heard_before(ends):
    hub, spoke, _ = ends
    center, at_hub = hub()
    one, at_one = spoke(1, secret=None)
    one.send({"ready": True})
    assert at_hub.next() == (1, {"ready": True})
    assert center.present == {1} and not center.connected and not one.connected

    one.send({"status": 2, "rank": 1, "host": "h", "log": ""})
    one.learn(SECRET)

    assert at_hub.next() == (1, {"run": "r", "rank": 1})  # and nothing of an end
    assert at_one.next() == (0, {"run": "r", "rank": 0})
    one.send({"rank": 1})
    assert at_hub.next() == (1, {"rank": 1})


def test_who_has_another_secret_is_believed_on_neither_side(ends):
    hub, spoke, _ = ends
    center, at_hub = hub()
    false, at_false = spoke(1, secret="t" * 32)
    time.sleep(0.4)
    assert not center.connected and not false.connected

    true, at_true = spoke(1)

    assert at_hub.next() == (1, {"run": "r", "rank": 1}) and at_true.next() == (0, {"run": "r", "rank": 0})
    false.close()
    center.send({"start": True})
    assert at_true.next() == (0, {"start": True}) and not false.connected


def test_strangers_who_say_nothing_are_sent_away_and_so_are_the_oldest_of_too_many(ends, monkeypatch):
    monkeypatch.setattr(connections, "_GREETING_SECONDS", 0.5)
    hub, spoke, address = ends
    hub()
    with socket.create_connection(address) as silent:
        silent.settimeout(WAIT)
        assert silent.recv(1) == b""

    monkeypatch.setattr(connections, "_GREETING_SECONDS", 60)
    monkeypatch.setattr(connections, "_MOST_STRANGERS", 2)
    strangers = [socket.create_connection(address) for _ in range(8)]  # of which 2 + 3 may stay
    strangers[0].settimeout(WAIT)
    assert strangers[0].recv(1) == b""
    strangers[-1].settimeout(0.5)
    with pytest.raises(TimeoutError):
        strangers[-1].recv(1)
    for stranger in strangers:
        stranger.close()


def test_a_watch_that_ends_by_an_error_says_so(capsys, monkeypatch):
    hub = Hub(("127.0.0.1", free_port()), {"run": "r", "rank": 0}, 2, SECRET, None, None)
    ended = threading.Event()

    def fail():
        ended.set()
        raise KeyError("x")

    monkeypatch.setattr(hub, "_watch", fail)
    hub.start()
    assert ended.wait(WAIT)
    time.sleep(0.2)
    hub.close()

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the watch for lost processes has ended (KeyError")
