"""Rates by step are read as web UIs write them, and have one form."""

import argparse

import pytest

from textual_inversion.settings.rates import Stage, learning_rate, settled, stages


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-3", 0.005),
        (" 5e-3 ", 0.005),
        ("5e-3:-1", 0.005),
        ("5e-3,", 0.005),
        ("5e-3:100, 1e-3:1000, 5e-4", "0.005:100, 0.001:1000, 0.0005"),
        ("5e-3:100,1e-3:1000,5e-4:-1", "0.005:100, 0.001:1000, 0.0005"),
        ("5e-3 : 100 , 1e-3 : 1000", "0.005:100, 0.001:1000"),
        ("0.1:7", "0.1:7"),
    ],
)
def test_a_value_has_one_form(text, value):
    assert learning_rate(text) == value
    assert learning_rate(str(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0", "must be greater than 0"),
        ("fast", "'fast' is not a number"),
        ("nan", "must be greater than 0"),
        ("", "is not a number"),
        ("1e-3:10, 0", "greater than 0.0, not 0; write RATE:STEP"),
        ("1e-3:x, 1", "'x' is not a whole number; write RATE:STEP"),
        ("1e-3:0, 1", "must be at least 1, not 0; write RATE:STEP"),
        ("1e-3:5:6, 1", "'5:6' is not a whole number"),
        ("1e-3:, 1", "'' is not a whole number"),
        ("1e-3, 1e-4", "rate 1 needs its last step: 0.001:STEP"),
        ("1e-3:-1, 1e-4:7", "rate 1 needs its last step"),
        ("1e-3:10, 1e-4:10, 1e-5", "step 10 must come after step 10"),
        ("1e-3:10, 1e-4:9", "step 9 must come after step 10"),
        ("1e-3:10,,1e-4", "'' is not a number"),
    ],
)
def test_what_is_no_rate_is_refused_with_the_reason(text, reason):
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        learning_rate(text)

    assert reason in str(refused.value)


def test_rates_are_read_back_in_order_and_multiplied():
    value = "0.005:100, 0.001:1000, 0.0005"

    assert stages(value) == (Stage(0.005, 100), Stage(0.001, 1000), Stage(0.0005))
    assert stages(0.25) == (Stage(0.25),)
    assert settled(value, 2, 5000) == (Stage(0.01, 100), Stage(0.002, 1000), Stage(0.001))
    assert settled(0.25, 4, 1) == (Stage(1.0),)


def test_a_last_rate_must_reach_the_end_of_the_run():
    assert settled("0.5:10, 0.1:20", 1, 20) == (Stage(0.5, 10), Stage(0.1))
    with pytest.raises(ValueError, match="ends at step 20 of 21"):
        settled("0.5:10, 0.1:20", 1, 21)
