"""Whether a loss has settled: a falling one, a flat one, a noisy one, one that went on elsewhere."""

import numpy as np
import pytest

from textual_inversion.training.settling import Settling, is_falling, lower_margin, student_quantile

SAMPLES = 16


def curve(step, *, fall=0.5, time=20.0, noise=0.0, seed=0):
    """Losses of the samples that fall to 1 - `fall` of what they were, each with a level of its own."""
    level = 0.02 + 0.3 * np.linspace(0, 1, SAMPLES) ** 3
    jitter = np.random.default_rng([seed, step]).normal(0, noise, SAMPLES) if step else 0.0
    return level * (1 - fall * (1 - np.exp(-step / time)) + jitter)


def end_of(losses_at, *, patience=3, every=10, last=1000, warmup=0):
    settling = Settling(patience, warmup, {})
    return next((step for step in range(0, last + 1, every) if settling.see(step, losses_at(step))), None)


def test_a_loss_that_falls_steadily_never_settles():
    assert end_of(lambda step: curve(step, fall=0.9, time=3000.0), last=600) is None


def test_a_loss_that_has_fallen_settles_soon_after_and_the_later_the_slower_it_fell():
    quick, slow = (end_of(lambda step, time=time: curve(step, time=time)) for time in (10.0, 60.0))

    assert quick == 90 and 200 <= slow <= 300


@pytest.mark.parametrize("seed", range(5))
def test_noise_about_a_level_is_no_fall_and_a_fall_shows_through_noise(seed):
    flat = end_of(lambda step: curve(step, time=10.0, noise=0.03, seed=seed))
    falling = end_of(lambda step: curve(step, fall=0.9, time=300.0, noise=0.03, seed=seed), last=300)

    assert flat <= 150 and falling is None


def test_nothing_settles_before_two_windows_or_in_the_warm_up():
    def flat(step):
        return curve(0)

    assert end_of(flat) == 60
    assert end_of(flat, warmup=100) == 160
    assert end_of(flat, patience=1) == 20


def test_losses_that_are_not_finite_do_not_end_a_run():
    assert end_of(lambda step: np.full(4, np.nan)) is None


def test_a_fall_that_is_sure_but_tiny_is_not_worth_its_steps():
    older, first = np.full(SAMPLES, 0.500), np.full(SAMPLES, 1.0)

    assert not is_falling(older, older - 0.009, first) and is_falling(older, older - 0.011, first)


def test_a_mean_fall_that_one_sample_makes_alone_is_chance():
    older = np.full(SAMPLES, 0.5)
    one, all_of_them = older.copy(), older - 0.32 / SAMPLES
    one[3] -= 0.32

    assert not is_falling(older, one, older + 0.1) and is_falling(older, all_of_them, older + 0.1)


def test_what_was_seen_goes_on_in_another_process_and_a_second_look_changes_nothing():
    whole, seen = Settling(3, 0, {}), {}
    ends = [(step, whole.see(step, curve(step, noise=0.01))) for step in range(0, 200, 10)]
    cut = []
    for step in range(0, 200, 10):
        resumed = Settling(3, 0, seen)  # of a checkpoint before each step
        cut += [(step, resumed.see(step, curve(step, noise=0.01)))]
        assert resumed.see(step, curve(step, noise=0.01)) == cut[-1][1]

    assert cut == ends and sorted(map(int, seen)) == [0, 140, 150, 160, 170, 180, 190]


def test_losses_of_another_fixed_set_are_dropped():
    seen = {"0": [1.0, 2.0], "10": [1.0], "x": [3.0, 4.0, 5.0]}

    Settling(2, 0, seen).see(20, [1.0, 2.0, 3.0])

    assert seen == {"20": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 6.3138), (2, 2.9200), (3, 2.3534), (7, 1.8946), (15, 1.7531), (100, 1.6602)]
)
def test_quantiles_are_those_of_the_tables(degrees, quantile):
    assert student_quantile(0.95, degrees) == pytest.approx(quantile, rel=5e-4)


def test_the_margin_is_the_quantile_times_the_standard_error():
    assert lower_margin(np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(2.3534 * 1.29099 / 2, rel=1e-3)
    assert lower_margin(np.array([5.0])) == 0
