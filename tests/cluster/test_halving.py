"""Successive halving: who goes on is what complete rungs say, whatever the order in which results come."""

import random

import pytest

from textual_inversion.cluster.halving import FAILED, Ladder, rungs

STEPS = (11, 33, 100)


def test_rungs_grow_by_the_factor_and_end_at_the_end():
    assert rungs(11, 100, 3) == (11, 33, 100)
    assert rungs(5, 50, 3) == (5, 15, 50)
    assert rungs(50, 100, 3) == (50, 100)
    assert rungs(1, 81, 3) == (1, 3, 9, 27, 81)
    assert rungs(100, 100, 3) == (100,)


def values_of(count):
    return {trial: [random.Random(100 * trial + rung).random() for rung in range(3)] for trial in range(count)}


def expected(values, failing, factor=3):
    """The members of each rung by the plain synchronous rule, worked out here."""
    members, levels = sorted(values), []
    for rung in range(3):
        levels.append(sorted(members))
        good = sorted((t for t in members if t not in failing), key=lambda t: -values[t][rung])
        members = good[: max(1, _size(len(values), factor, rung + 1))]
    return levels


def _size(count, factor, rung):
    for _ in range(rung):
        count = max(1, count // factor)
    return count


def climbed(values, slots, seed, failing=()):
    """(ladder, parts that were done) after a search in which `slots` parts run at a time and end in random order."""
    draw, known, busy, begun, done = random.Random(seed), [{}, {}, {}], {}, 0, []
    while not (ladder := Ladder(len(values), STEPS, 3, known)).is_done():
        while len(busy) < slots and (work := Ladder(len(values), STEPS, 3, known).next_work(busy, begun)):
            assert work[0] not in busy and work[0] not in known[work[1]]
            assert work[1] == 0 or work[0] in known[work[1] - 1], "no rung is left out"
            begun += work[0] == begun
            busy[work[0]] = work[1]
        trial = draw.choice(sorted(busy))
        rung = busy.pop(trial)
        done.append((trial, rung))
        for at in range(rung, 3) if trial in failing else [rung]:
            known[at][trial] = FAILED if trial in failing else values[trial][rung]
    return ladder, done


@pytest.mark.parametrize("failing", [(), (3, 5), tuple(range(11))])
def test_the_order_of_results_changes_neither_who_goes_on_nor_who_is_best(failing):
    values = values_of(12)
    levels = expected(values, failing)
    for slots in (1, 2, 5, 12):
        for seed in range(20):
            ladder, done = climbed(values, slots, seed, failing)
            assert [sorted(ladder.members(rung)) for rung in range(3)] == levels
            assert ladder.best() == levels[2][0] or ladder.best() == max(levels[2], key=lambda t: values[t][2])
            assert len(done) == len(set(done)), "no part is done twice"


def test_alone_it_does_no_part_that_does_not_count():
    _, done = climbed(values_of(12), 1, 0)
    assert 12 + 4 + 1 <= len(done) <= 12 + 4 + 1 + 4  # the first promotions are made before the rung is complete


def test_a_free_slot_goes_on_with_the_likely_one_while_a_rung_is_open():
    ladder = Ladder(4, (10, 30), 2, [{0: 0.1, 1: 0.9}, {}])

    assert ladder.members(1) == []
    assert ladder.next_work({2, 3}, begun=4) == (1, 1)  # the best of two known ones
    assert ladder.next_work({1, 2, 3}, begun=4) is None
    assert ladder.next_work({2}, begun=3) == (3, 0)  # a new trial comes first
    assert ladder.next_work({2}, begun=3, may_begin=False) == (1, 1)


def test_a_trial_goes_on_as_soon_as_no_other_can_displace_it():
    ladder = Ladder(4, (10, 30), 2, [{0: 0.1, 1: 0.9, 2: 0.5}, {}])

    assert ladder.members(1) == [1]  # of two places one is certain, whatever the fourth brings
    assert not ladder.is_complete(0)


def test_where_all_fail_there_is_no_best():
    ladder = Ladder(2, (10,), 2, [{0: FAILED, 1: FAILED}])
    assert ladder.is_done() and ladder.best() is None
