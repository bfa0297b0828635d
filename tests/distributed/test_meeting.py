"""All ranks go on together or none does, whenever one of them is told to end."""

import random
import threading
import time

import pytest

from textual_inversion.distributed import meeting


class Store:
    """The launcher's key-value store, as far as a meeting needs it."""

    def __init__(self):
        self._lock, self._sums = threading.Lock(), {}

    def add(self, name, number):
        with self._lock:
            self._sums[name] = self._sums.get(name, 0) + number
            return self._sums[name]


class Rank(threading.Thread):
    """A rank that comes to a meeting; `came` says what it was told there."""

    def __init__(self, store, rank, world_size, is_told=False):
        super().__init__(daemon=True)
        self.told, self.went_on = is_told, None
        self._meeting = (store.add, "m", rank, world_size, lambda: self.told, lambda: time.sleep(0.0005))

    def run(self):
        self.went_on = meeting.hold(*self._meeting)


def outcome(ranks):
    for rank in ranks:
        rank.join(20)
    return [rank.went_on for rank in ranks]


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_all_go_on_when_all_have_come(world_size):
    store = Store()
    ranks = [Rank(store, rank, world_size) for rank in range(world_size)]
    for rank in reversed(ranks):
        rank.start()

    assert outcome(ranks) == [True] * world_size


def test_nobody_goes_on_before_the_last_has_come():
    store = Store()
    ranks = [Rank(store, rank, 3) for rank in range(3)]
    ranks[0].start(), ranks[1].start()
    time.sleep(0.05)

    assert ranks[0].is_alive() and ranks[1].is_alive()
    ranks[2].start()
    assert outcome(ranks) == [True] * 3


def test_one_that_is_told_to_end_leaves_at_once_and_the_others_do_when_the_first_has_come():
    store = Store()
    ranks = [Rank(store, rank, 3) for rank in range(3)]
    ranks[1].start(), ranks[2].start()
    ranks[2].told = True

    assert outcome(ranks[2:]) == [False]  # though the first one has not come
    ranks[0].start()
    assert outcome(ranks) == [False] * 3


def test_where_the_first_is_told_nobody_goes_on():
    store = Store()
    ranks = [Rank(store, rank, 3, is_told=rank == 0) for rank in range(3)]
    for rank in ranks:
        rank.start()

    assert outcome(ranks) == [False] * 3


def test_the_ranks_agree_whenever_one_of_them_is_told():
    dice, seen = random.Random(0), set()
    for _ in range(150):
        store = Store()
        ranks = [Rank(store, rank, 3) for rank in range(3)]
        moments = sorted((dice.uniform(0, 0.004), kind, rank) for kind in ("come", "told") for rank in range(3))
        told = dice.choice(ranks)
        begin = time.monotonic()
        for moment, kind, place in moments:
            time.sleep(max(0.0, begin + moment - time.monotonic()))
            if kind == "come":
                ranks[place].start()
            elif ranks[place] is told:
                told.told = True
        found = outcome(ranks)
        assert found in ([True] * 3, [False] * 3)
        seen.add(found[0])

    assert seen == {True, False}
