"""Phases add up."""

from textual_inversion.system.timing import Phases


def test_a_phase_that_comes_back_is_counted_on():
    ticks = iter([0.0, 1.0, 1.0, 3.0, 10.0, 10.5])
    phases = Phases(clock=lambda: next(ticks))

    for name in ("loading", "training", "loading"):
        with phases(name):
            pass

    assert phases.seconds == {"loading": 1.5, "training": 2.0}
    assert phases.summary() == "loading 1.5 s, training 2.0 s, in all 3.5 s"
