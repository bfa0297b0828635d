"""How often the page looks at runs again, by their age and state."""

from pathlib import Path

import pytest

from textual_inversion.studio import refresh, runs
from textual_inversion.studio.children import Job
from textual_inversion.studio.runs import Run

_NOW = 1_000_000.0


def run(age, state=runs.RUNNING):
    job = Job(["python"], 1, 1, "", _NOW - age)
    return Run(Path("/runs/a"), state, job=job)


@pytest.mark.parametrize(
    ("age", "period"),
    [(0, 5), (50, 5), (99, 5), (100, 10), (199, 10), (200, 20), (10**6, 20), (-60, 5)],
)
def test_a_run_is_looked_at_again_when_it_is_a_tenth_older(age, period):
    assert refresh.period([run(age)], _NOW) == period


@pytest.mark.parametrize("state", [runs.STARTING, runs.STOPPING])
def test_what_begins_or_ends_is_looked_at_often(state):
    assert refresh.period([run(10**4, state)], _NOW) == 2


def test_the_youngest_of_several_sets_the_period():
    assert refresh.period([run(10**4), run(60), run(10**3)], _NOW) == 5


@pytest.mark.parametrize("state", [runs.FINISHED, runs.STOPPED, runs.FAILED, runs.UNKNOWN])
def test_nothing_that_has_ended_is_looked_at_again(state):
    assert refresh.period([run(5, state)], _NOW) is None
    assert refresh.period([], _NOW) is None
    assert refresh.period([run(5, state), run(10**4)], _NOW) == 20
