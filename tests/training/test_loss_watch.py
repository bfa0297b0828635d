"""The loss on the fixed set, by part of the schedule, as it is logged and recorded."""

import numpy as np
import pytest

from textual_inversion.training.fixed_set import bands_of, by_group
from textual_inversion.training.loss_watch import LossWatch
from textual_inversion.training.settling import Settling
from textual_inversion.training.state import Record


class FixedLosses:
    """Gives one look after the other; the samples lie two in each band."""

    def __init__(self, *looks):
        self._looks = iter(looks)

    def losses(self):
        return np.array(next(self._looks))

    def by_band(self, losses):
        return dict(zip(("little_noise", "half_noise", "much_noise"), losses.reshape(3, 2).mean(axis=1), strict=True))


class Curves(dict):
    """In the place of a tracker."""

    def scalar(self, tag, value, step):
        self[tag, step] = value


def test_it_is_logged_and_recorded_whole_and_in_three_parts():
    record, curves, said = Record(), Curves(), []
    looks = [[6.0, 6.0, 3.0, 3.0, 0.5, 0.5], [6.0, 6.0, 3.0, 2.0, 0.25, 0.25]]
    watch = LossWatch(FixedLosses(*looks), record, curves, said.append, None)

    values = [watch.look(step) for step in (0, 25)]

    assert values == pytest.approx([19 / 6, 17.5 / 6]) and not watch.has_settled
    assert record.figures["fixed_set_loss"] == {"0": values[0], "25": values[1]}
    assert record.figures["fixed_set_bands"] == {
        "little_noise": [6.0, 6.0], "half_noise": [3.0, 2.5], "much_noise": [0.5, 0.25]
    }  # fmt: skip
    assert curves["eval/fixed_set_loss_much_noise", 25] == 0.25 and curves["eval/fixed_set_loss", 0] == values[0]
    assert said == ["step 0: loss on the fixed set 3.1667", "step 25: loss on the fixed set 2.9167 (-7.9 %)"]


def test_it_says_when_it_has_settled_only_where_that_is_asked_for():
    flat = [[1.0] * 6] * 5
    seen: dict = {}
    asked = LossWatch(FixedLosses(*flat), Record(), Curves(), print, Settling(2, 0, seen))
    not_asked = LossWatch(FixedLosses(*flat), Record(), Curves(), print, None)

    for step in range(5):
        asked.look(step)
        not_asked.look(step)
        assert (asked.has_settled, not_asked.has_settled) == (step == 4, False)


def test_bands_are_thirds_of_the_range_and_groups_are_means():
    assert bands_of(np.array([0, 333, 334, 666, 667, 999]), 0, 1000).tolist() == [0, 0, 1, 1, 2, 2]
    assert bands_of(np.array([200, 399, 499]), 200, 500).tolist() == [0, 1, 2]
    assert by_group(np.array([1.0, 2.0, 3.0]), np.array([4, 7, 4])) == {4: 2.0, 7: 2.0}
