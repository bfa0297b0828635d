"""A search without machines: its outcome does not depend on time, deaths or interruptions."""

import json

import pytest

from helpers.fake_cluster import LocalPool, loss_after, measured, search_of
from textual_inversion.cluster.pool import Lost
from textual_inversion.cluster.search import TRIALS, trials_from
from textual_inversion.cluster.space import arguments, grid_trial
from textual_inversion.cluster.trial import DIED, DONE, REFUSED, Outcome


def resumed(search, **changes):
    entries = json.loads((search.folder / TRIALS).read_text())
    return search_of(search.folder, trials=trials_from(entries, search.plan), **changes)


def test_a_grid_is_trained_once_and_the_best_is_the_one_with_the_least_loss(tmp_path):
    search, pool = search_of(tmp_path), LocalPool(task=measured)
    search.run(pool)

    losses = [loss_after(arguments(grid_trial(search.plan.space, number)), 99) for number in range(12)]
    assert sorted(key for key, _ in pool.orders) == list(range(12))
    assert search.ladder().best() == losses.index(min(losses))
    assert [one.results[0]["fixed_set_loss"] for one in search.trials] == losses
    assert pool.orders[3][1].folder == str(tmp_path / "trials" / "003")


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_trials_and_outcome_do_not_depend_on_who_ends_first(tmp_path, method):
    if method == "tpe":
        pytest.importorskip("optuna")
    outcomes = []
    for seed in range(4):
        search = search_of(tmp_path / str(seed), method=method, lag=3)
        search.run(LocalPool(size=3, seed=seed, task=measured))
        outcomes.append(([one.parameters for one in search.trials], search.ladder().best()))

    assert outcomes == outcomes[:1] * 4


def test_tpe_waits_for_the_trials_that_it_learns_from(tmp_path):
    pytest.importorskip("optuna")
    search = search_of(tmp_path, method="tpe", lag=2)
    pool = LocalPool(size=5, task=measured)
    running = []

    def submit(key, task, order, usual=pool.submit):
        running.append(sum(0 not in one.results for one in search.trials))
        usual(key, task, order)

    pool.submit = submit
    search.run(pool)
    assert max(running) == 2 and len(search.trials) == 12


@pytest.mark.parametrize("rungs", [(), (11, 33, 100)])
@pytest.mark.parametrize("stop_after", [0, 1, 5, 9])
def test_a_search_that_is_interrupted_ends_as_if_it_were_not(tmp_path, rungs, stop_after):
    whole = search_of(tmp_path / "whole", rungs=rungs)
    whole.run(LocalPool(task=measured))
    calls = []

    def failing(part):
        calls.append(part)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return measured(part)

    cut = search_of(tmp_path / "cut", rungs=rungs)
    with pytest.raises(KeyboardInterrupt):
        cut.run(LocalPool(seed=3, task=failing))
    known = {(one.number, rung) for one in cut.trials for rung in one.results}
    after, pool = resumed(cut, rungs=rungs), LocalPool(seed=9, task=measured)
    after.run(pool)

    assert after.ladder().best() == whole.ladder().best()
    labels = after.plan.labels
    again = {(key, labels.index(order.until)) for key, order in pool.orders}
    assert not again & known, "nothing that was done is done again"
    assert len(known) == stop_after


def test_a_trial_that_died_is_tried_again_and_a_bad_setting_is_not(tmp_path):
    tries = []

    def task(part):
        number = int(part.folder[-3:])
        tries.append(number)
        if number == 2:
            return Outcome(REFUSED, {}, "--optimizer: no")
        if number == 4 and tries.count(4) < 3:
            return Outcome(DIED, {}, "ended by signal 9")
        if number == 5:
            return Lost("the worker died")
        return measured(part)

    search = search_of(tmp_path)
    search.run(LocalPool(task=task))

    assert (tries.count(2), tries.count(4), tries.count(5)) == (1, 3, 3)
    assert [search.status(search.trials[number]) for number in (2, 4, 5)] == ["refused", "done", "died"]
    entries = json.loads((tmp_path / TRIALS).read_text())
    assert entries[2]["error"] == "--optimizer: no" and entries[4]["error"] is None
    assert search.ladder().is_done() and search.ladder().best() not in (2, 5)

    tries.clear()
    again = resumed(search)
    again.run(LocalPool(task=task))
    assert set(tries) == {5}, "with --resume, what died is tried again, and nothing else"


def test_asha_trains_few_trials_to_the_end_and_each_rung_from_the_one_before(tmp_path):
    search, pool = search_of(tmp_path, rungs=(11, 33, 100)), LocalPool(task=measured)
    search.run(pool)

    untils = [order.until for _, order in pool.orders]
    assert untils.count(11) == 12 and 4 <= untils.count(33) <= 6 and 1 <= untils.count(None) <= 2
    best = search.ladder().best()
    assert [order.until for key, order in pool.orders if key == best] == [11, 33, None]


def test_a_metric_that_is_not_defined_ranks_last(tmp_path):
    def task(part):
        outcome = measured(part)
        return outcome if part.folder.endswith("007") else Outcome(DONE, {**outcome.figures, "fixed_set_loss": None})

    search = search_of(tmp_path)
    search.run(LocalPool(task=task))
    assert search.ladder().best() == 7


def test_several_metrics_give_a_front(tmp_path):
    good = {0: (3.0, 1.0), 1: (1.0, 3.0), 2: (2.0, 2.0), 3: (2.0, 2.5)}

    def task(part):
        loss, steps = good.get(int(part.folder[-3:]), (9.0, 9.0))
        return Outcome(DONE, {"fixed_set_loss": loss, "steps": steps})

    search = search_of(tmp_path, metrics=("fixed_set_loss", "steps"))
    search.run(LocalPool(task=task))
    assert search.front() == [0, 1, 2]
