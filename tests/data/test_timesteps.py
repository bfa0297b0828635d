"""Timesteps: strata are dealt out once each, and what the samples of a step share is drawn once."""

import pytest

from textual_inversion.data import random_streams
from textual_inversion.data.timesteps import TimestepRange


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_the_draws_of_a_step_meet_every_part_of_the_range_once(count):
    timesteps = [TimestepRange(0, 640).stratified(7, 3, number, count) for number in range(count)]

    # A part may begin between two timesteps, so the one before its edge may be drawn too.
    parts = [(int(part * 640 / count), (part + 1) * 640 / count) for part in range(count)]
    assert all(low <= t <= high for t, (low, high) in zip(sorted(timesteps), parts, strict=True))


def test_the_order_of_the_parts_is_drawn_once_for_all_samples_of_a_step(monkeypatch):
    orders = []
    draw = random_streams.generator
    monkeypatch.setattr(random_streams, "generator", lambda *a, **k: orders.append(k["step"]) or draw(*a, **k))
    random_streams.permutation.cache_clear()

    for step in (11, 12):
        for number in range(50):
            TimestepRange(0, 1000).stratified(7, step, number, 50)

    assert orders == [11, 12]


@pytest.mark.parametrize("size", [1, 2, 6, 16])
def test_a_spread_has_the_midpoints_of_equal_parts(size):
    assert sorted(TimestepRange(100, 900).spread(size)) == [int(100 + (i + 0.5) * 800 / size) for i in range(size)]
