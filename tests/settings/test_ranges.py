"""Ranges of a setting's values."""

import argparse

import pytest

from textual_inversion.settings import shared
from textual_inversion.settings.bounds import number, share
from textual_inversion.settings.ranges import Range, ends_of, image_sizes, ranged, values_in

GUIDANCE = ranged(shared.guidance, "1:9:5")
STEPS = ranged(shared.inference_steps, "10:50:5")
SEED = ranged(number(int, 0, 2**64 - 1), "0:90:10")
SIDE = ranged(shared.pixels, "256:512:3")
SIZE = image_sizes(shared.pixels)


@pytest.mark.parametrize(
    ("parse", "text", "values"),
    [
        (GUIDANCE, "1:9:5", (1.0, 3.0, 5.0, 7.0, 9.0)),
        (GUIDANCE, "0.1:0.3:3", (0.1, 0.2, 0.3)),
        (GUIDANCE, "3:3:1", (3.0,)),
        (ranged(share, "0:1:5"), "0:1:4", (0.0, 0.333333333333, 0.666666666667, 1.0)),
        (STEPS, "10:50:5", (10, 20, 30, 40, 50)),
        (SEED, "0:18446744073709551615:4", (0, 2**64 // 3, 2 * (2**64 // 3), 2**64 - 1)),
        (SIDE, "64:128:3", (64, 96, 128)),
        (SIZE, "64:128:3", ((64, 64), (96, 96), (128, 128))),
        (SIZE, "64x128:128x128:2", ((64, 128), (128, 128))),
    ],
)
def test_a_range_holds_both_ends_and_even_steps(parse, text, values):
    found = parse(text)

    assert isinstance(found, Range) and str(found) == text
    assert found.values == values and [type(v) for v in found.values] == [type(v) for v in values]


def test_what_is_no_range_is_a_single_value():
    assert (GUIDANCE("7.5"), STEPS("20"), SEED(str(2**64 - 1)), SIDE("64")) == (7.5, 20, 2**64 - 1, 64)
    assert (SIZE("64"), SIZE("64x128"), SIZE("64X128")) == ((64, 64), (64, 128), (64, 128))


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (GUIDANCE, "9:1:5", "9:1:5 runs backwards; begin with the lower end"),
        (GUIDANCE, "1:1:2", "1:1:2 gives the same value 2 times; write 1"),
        (GUIDANCE, "1:5:1", "1:5:1 has two ends and only one value; count at least 2"),
        (GUIDANCE, "1:1.00000000000001:50", "gives the same values more than once"),
        (GUIDANCE, "1:5", "must be a value or START:STOP:COUNT, such as 1:9:5, not 1:5"),
        (GUIDANCE, "1::5", "must be a value or START:STOP:COUNT"),
        (GUIDANCE, "1:2:3:4", "must be a value or START:STOP:COUNT"),
        (GUIDANCE, "1:nan:3", "between 0.0 and 1000.0"),
        (GUIDANCE, "1:2000:3", "between 0.0 and 1000.0"),
        (GUIDANCE, "1:2:0", "must be at least 1, not 0"),
        (GUIDANCE, "1:2:2.5", "'2.5' is not a whole number"),
        (GUIDANCE, "1:2:1000001", "must be at most 1000000"),
        (STEPS, "10:50:4", "10:50:4 gives fractions; count 3, or move an end"),
        (STEPS, "1:5:9", "1:5:9 gives the same values more than once; count 5, or move an end"),
        (STEPS, "1:5.5:2", "'5.5' is not a whole number"),
        (SEED, "5:1:3", "5:1:3 runs backwards"),
        (SIDE, "64:96:9", "64:96:9: must be a multiple of 8, not 68; try 64"),
        (SIZE, "128x64:64x128:3", "128x64:64x128:3 runs backwards"),
        (SIZE, "64x64:64x64:3", "gives the same value 3 times"),
        (SIZE, "64:96:9", "64:96:9: must be a multiple of 8, not 68"),
        (SIZE, "64x64x64", "must be WIDTHxHEIGHT, such as 768x512, not 64x64x64"),
        (SIZE, "64x", "'' is not a whole number"),
    ],
)
def test_what_cannot_be_even_whole_or_rising_is_refused(parse, text, message):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        parse(text)

    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("count", range(2, 42))
def test_the_count_that_a_refusal_names_is_taken(count):
    try:
        values = STEPS(f"10:46:{count}").values
    except argparse.ArgumentTypeError as error:
        named = int(str(error).partition("count ")[2].partition(",")[0])
        values = STEPS(f"10:46:{named}").values
    assert values[0] == 10 and values[-1] == 46 and len({b - a for a, b in zip(values, values[1:], strict=False)}) == 1


def test_values_of_lists_and_ranges_come_once_and_in_order():
    assert values_in([7.5, GUIDANCE("1:3:3"), 2.0]) == [7.5, 1.0, 2.0, 3.0]
    assert ends_of([7.5, GUIDANCE("1:3:3")]) == (1.0, 7.5) and ends_of([7.5, 1.0]) is None
