"""How a forecast is reckoned and told, by value."""

import pytest

from textual_inversion.training.foresight import (
    Forecast,
    StepTimes,
    Work,
    forecast_lines,
    seconds_of_drawing,
    seconds_of_steps,
    size_text,
    steps_text,
)


def test_the_first_step_counts_once_and_the_others_as_their_median():
    assert seconds_of_steps([5.0, 1.0, 2.0, 100.0], 11) == 5.0 + 10 * 2.0
    assert seconds_of_steps([3.0], 4) == 12.0 and seconds_of_steps([], 4) == 0.0 and seconds_of_steps([1.0], 0) == 0.0


def test_images_take_a_part_that_is_the_same_and_a_part_a_step():
    assert seconds_of_drawing((2, 1.4), (6, 2.2), [50, 10]) == pytest.approx(1.0 + 50 * 0.2 + 1.0 + 10 * 0.2)
    assert seconds_of_drawing((2, 1.4), (6, 1.2), [50]) == pytest.approx(1.4)  # by chance the longer one was quicker


def test_it_adds_up_and_is_told_in_lines():
    work = {
        "checkpoints": Work(4, 0.5, 10_000, kept=2),
        "saved pipeline": Work(1, 3.0, 2_000_000),
        "scores": Work(0, 9.0),
    }
    forecast = Forecast(10.0, 200.0, work, 17.5, 1_234_000_000, 0, {"checkpoints": [1, 2], "embeddings": []})

    lines = forecast_lines(forecast, 100)

    assert forecast.seconds == 215.0 and forecast.disk == 2_020_000
    assert lines == [
        "plan: in all about 215.0 s (3:35): start 10.0 s, 100 steps of 2.00 s 200.0 s, checkpoints 2.0 s, "
        "saved pipeline 3.0 s",
        "plan: the first validation image after about 17.5 s",
        "plan: peak memory about 1.2 GB",
        "plan: on disk about 2.0 MB: checkpoints 20.0 kB, saved pipeline 2.0 MB",
        "plan: checkpoints after steps 1, 2",
        "plan: nothing was written; the same command without --plan is the run",
    ]


def test_two_steps_are_timed_and_more_where_they_are_quick():
    now = [0.0]
    for each, wanted in ((4.0, 2), (0.5, 6), (0.01, 12)):
        times = StepTimes(lambda: None, clock=lambda: now[0])
        with times:
            while not times.has_settled:
                now[0] += each
                times.after_step(1, 0.0, 0.0)
        assert len(times.seconds) == wanted and times.seconds == pytest.approx([each] * wanted)


def test_many_steps_are_told_by_their_beginning_and_end():
    assert steps_text([7]) == "step 7" and steps_text([1, 2]) == "steps 1, 2"
    assert steps_text(range(0, 1001, 100)) == "steps 0, 100, 200, 300, …, 1000 (11 times)"


@pytest.mark.parametrize(
    ("size", "text"), [(7, "7 bytes"), (24_000, "24.0 kB"), (31_400_000, "31.4 MB"), (4e9, "4.0 GB")]
)
def test_bytes_in_words(size, text):
    assert size_text(size) == text
