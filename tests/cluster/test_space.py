"""What a trial gets is a function of the space, the seed, its number and certain results."""

import pytest

from textual_inversion.cluster.space import (
    Axis,
    Finished,
    arguments,
    grid_size,
    grid_trial,
    random_at_first,
    random_trial,
    tpe_trial,
)

RATE = Axis("learning_rate", low=0.001, high=0.1, is_log=True)
COUNT = Axis("num_vectors", low=1, high=8, is_whole=True)
SHARE = Axis("flip_p", low=0.0, high=0.5, step=0.25)
KIND = Axis("lr_scheduler", ("constant", "cosine", None))
SPACE = (RATE, COUNT, SHARE, KIND)


def test_a_grid_goes_through_everything_once_the_last_flag_fastest():
    space = (Axis("a", ("1", "2")), Axis("b", ("x", None, ("y", "z"))))

    trials = [grid_trial(space, number) for number in range(grid_size(space))]

    assert trials == [{"a": a, "b": b} for a in ("1", "2") for b in ("x", None, ("y", "z"))]


def test_values_become_words_of_a_command_line():
    assert arguments({"a": "1", "b": None, "c": ("y", "z"), "d": "-1"}) == ["--a=1", "--c", "y", "z", "--d=-1"]


def test_random_trials_stay_inside_and_reach_everything():
    trials = [random_trial(SPACE, 7, number) for number in range(400)]

    rates = [float(trial["learning_rate"]) for trial in trials]
    assert all(0.001 <= rate <= 0.1 for rate in rates)
    assert 0.4 < sum(rate < 0.01 for rate in rates) / 400 < 0.6, "spread evenly by the logarithm"
    assert {trial["num_vectors"] for trial in trials} == set(map(str, range(1, 9)))
    assert {trial["flip_p"] for trial in trials} == {"0", "0.25", "0.5"}
    assert {trial["lr_scheduler"] for trial in trials} == {"constant", "cosine", None}


def test_a_random_trial_depends_on_seed_and_number_only():
    assert random_trial(SPACE, 7, 3) == random_trial(SPACE, 7, 3) != random_trial(SPACE, 8, 3)
    assert random_trial(SPACE, 7, 3) != random_trial(SPACE, 7, 4)


def finished(count):
    """Trials whose value is the better the nearer the rate is to 0.01."""
    made = [random_trial(SPACE, 1, number) for number in range(count)]
    return [Finished(one, (-abs(float(one["learning_rate"]) - 0.01),)) for one in made]


def test_tpe_is_random_at_first_then_a_function_of_what_it_may_know():
    pytest.importorskip("optuna")
    first = random_at_first(40)

    assert tpe_trial(SPACE, 5, first - 1, finished(20), [True], 40) == random_trial(SPACE, 5, first - 1)
    one, same, other = (tpe_trial(SPACE, 5, 20, finished(count), [True], 40) for count in (20, 20, 12))
    assert one == same != other
    assert set(one) == {axis.name for axis in SPACE} and 1 <= int(one["num_vectors"]) <= 8


def test_tpe_finds_better_values_than_chance():
    pytest.importorskip("optuna")
    known = finished(30)
    tried = [float(tpe_trial(SPACE, 5, number, known, [True], 60)["learning_rate"]) for number in range(30, 45)]
    drawn = [float(random_trial(SPACE, 5, number)["learning_rate"]) for number in range(30, 45)]

    def miss(rates):
        return sum(abs(rate - 0.01) for rate in rates)

    assert miss(tried) < 0.7 * miss(drawn)


def test_tpe_takes_several_objectives():
    pytest.importorskip("optuna")
    known = [Finished(one.parameters, (one.values[0], float(place))) for place, one in enumerate(finished(12))]

    assert set(tpe_trial(SPACE, 5, 12, known, [True, False], 16)) == {axis.name for axis in SPACE}
