"""Where ranks meet: all proceed together or none does, whenever one is told to end; what they show one another."""

import random
import subprocess
import sys
import threading
import time

import pytest

from helpers.node_runs import free_port
from helpers.paths import ROOT
from helpers.stores import Store
from textual_inversion.distributed import meeting
from textual_inversion.distributed.meeting import MeetingPoint


def points(world_size):
    store = Store()
    return [MeetingPoint(store, rank, world_size, poll_seconds=0.0005) for rank in range(world_size)]


class Rank(threading.Thread):
    """A rank that calls something at its meeting point; `result` is what that returned."""

    def __init__(self, call, *arguments):
        super().__init__(daemon=True)
        self.told, self.result = False, None
        self._call, self._arguments = call, arguments

    def run(self):
        self.result = self._call(*self._arguments)


def together(world_size, told=()):
    """Ranks for one `go_together`."""
    ranks = [Rank(None) for _ in range(world_size)]
    for number, (rank, point) in enumerate(zip(ranks, points(world_size), strict=True)):
        rank._call, rank._arguments = point.go_together, (lambda rank=rank: rank.told,)
        rank.told = number in told
    return ranks


def outcome(ranks):
    for rank in ranks:
        rank.join(20)
        assert not rank.is_alive()
    return [rank.result for rank in ranks]


def outcome_of(call, values):
    """What each of several ranks gets from a method of its meeting point, given its own value."""
    ranks = [Rank(getattr(point, call), value) for point, value in zip(points(len(values)), values, strict=True)]
    for rank in reversed(ranks):
        rank.start()
    return outcome(ranks)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_all_proceed_when_all_have_come(world_size):
    ranks = together(world_size)
    for rank in reversed(ranks):
        rank.start()

    assert outcome(ranks) == [True] * world_size


def test_nobody_proceeds_before_the_last_has_come():
    ranks = together(3)
    ranks[0].start(), ranks[1].start()
    time.sleep(0.05)

    assert ranks[0].is_alive() and ranks[1].is_alive()
    ranks[2].start()
    assert outcome(ranks) == [True] * 3


def test_one_that_is_told_to_end_leaves_at_once_and_the_others_do_when_rank_0_has_come():
    ranks = together(3)
    ranks[1].start(), ranks[2].start()
    ranks[2].told = True

    assert outcome(ranks[2:]) == [False]  # though rank 0 has not come
    ranks[0].start()
    assert outcome(ranks) == [False] * 3


def test_where_rank_0_is_told_nobody_proceeds():
    ranks = together(3, told=[0])
    for rank in ranks:
        rank.start()

    assert outcome(ranks) == [False] * 3


def test_the_ranks_agree_whenever_one_of_them_is_told():
    dice, seen = random.Random(0), set()
    for _ in range(150):
        ranks = together(3)
        moments = sorted((dice.uniform(0, 0.004), kind, rank) for kind in ("come", "told") for rank in range(3))
        told = dice.choice(ranks)
        begin = time.monotonic()
        for moment, kind, number in moments:
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            if kind == "come":
                ranks[number].start()
            elif ranks[number] is told:
                told.told = True
        found = outcome(ranks)
        assert found in ([True] * 3, [False] * 3)
        seen.add(found[0])

    assert seen == {True, False}


def test_a_wait_ends_when_the_last_has_come_and_each_meeting_is_one_of_its_own():
    here = points(3)
    for _ in range(3):
        ranks = [Rank(point.wait) for point in here]
        ranks[0].start(), ranks[2].start()
        time.sleep(0.02)
        assert ranks[0].is_alive() and ranks[2].is_alive()
        ranks[1].start()
        assert outcome(ranks) == [None] * 3


def test_meetings_of_all_kinds_follow_one_another():
    def visit(point):
        point.wait()
        first = point.exchange({"a": 1})
        goes = point.go_together(lambda: False)
        point.wait()
        return first, goes, point.exchange({"rank": point._rank})

    ranks = [Rank(visit, point) for point in points(3)]
    for rank in ranks:
        rank.start()

    for first, goes, last in outcome(ranks):
        assert (first, goes) == ([], True)
        assert [facts for _, facts in last] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]


def test_facts_are_shown_with_their_machine_only_where_they_differ(monkeypatch):
    monkeypatch.setattr(meeting.platform, "node", lambda: "node-a")

    assert outcome_of("exchange", [{"b": 1, "a": [2]}, {"a": [2], "b": 1}]) == [[], []]
    shown = [("node-a", {"a": 1}), ("node-a", {"a": 1}), ("node-a", {"a": None, "ä": "ö"})]
    assert outcome_of("exchange", [facts for _, facts in shown]) == [shown] * 3


def test_the_rank_that_holds_the_store_leaves_last():
    """Rank 0's process holds the store, so it must not leave while another rank reads."""
    here, order = points(2), []
    read = here[1]._read

    def slow(key):
        time.sleep(0.05)
        return read(key)

    here[1]._read = slow
    ranks = [Rank(lambda rank=rank, point=point: point.exchange({"x": rank}) and order.append(rank))
             for rank, point in enumerate(here)]  # fmt: skip
    for rank in ranks:
        rank.start()
    outcome(ranks)

    assert order == [1, 0]


STORM = """
import os, signal, subprocess, sys
sys.path.insert(0, {root!r})
from paddle.base.core import TCPStore
from textual_inversion.distributed.meeting import MeetingPoint

heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
here = MeetingPoint(TCPStore("127.0.0.1", {port}, True, 1, 30), 0, 1)
send = f"import os, time; [(os.kill({{os.getpid()}}, 15), time.sleep(0.001)) for _ in range(500)]"
storm, count = subprocess.Popen([sys.executable, "-c", send]), 0
while storm.poll() is None:
    count += 1
    here.wait()
    assert here.exchange({{"count": count}}) == []
    assert here.go_together(lambda: False)
assert len(heard) > 3 and count > 1
print("all met")
"""


@pytest.mark.slow
def test_signals_do_not_come_between_a_question_to_the_store_and_its_answer():
    """A launcher sends SIGTERM three times; the store takes an interrupted wait for a broken connection."""
    script = STORM.format(root=str(ROOT), port=free_port())

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)

    assert done.stdout == "all met\n", done.stderr


@pytest.mark.parametrize("world_size", [2, 5])
def test_a_value_is_handed_out_by_the_first_rank_whatever_the_others_give(world_size):
    assert outcome_of("hand_out", ["the secret", *range(1, world_size)]) == ["the secret"] * world_size
