"""Differences and what they mean, by value."""

import math

import pytest

from textual_inversion.evaluation.standard_errors import (
    BETTER,
    CHANCE,
    WORSE,
    judged,
    paired,
    standard_error,
    t_quantile,
)


@pytest.mark.parametrize("freedom, value", [(1, 12.706), (2, 4.303), (3, 3.182), (5, 2.571), (13, 2.160), (63, 1.998)])
def test_students_t(freedom, value):
    assert t_quantile(freedom) == pytest.approx(value, rel=2e-3)


def test_the_standard_error_of_a_mean():
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3 / 4))
    assert standard_error([1.0]) is None


def test_pairs_see_what_seeds_hide():
    first = [0.1, 0.9, 0.4, 0.7, 0.2]
    found = paired(first, [value + 0.05 + 0.001 * i for i, value in enumerate(first)])
    assert found.verdict == BETTER and found.is_paired and found.value == pytest.approx(0.052)
    assert paired(first, first).verdict == CHANCE
    assert paired(first, first[::-1]).verdict == CHANCE
    assert paired([value + 0.1 for value in first], first).verdict == WORSE


def test_a_difference_is_judged_by_its_error():
    assert judged(0.1, 0.02, 30).verdict == BETTER and judged(0.1, 0.06, 30).verdict == CHANCE
    assert judged(0.0, 0.0, 30).verdict == CHANCE
