"""The arithmetic of the page's benchmark; nothing is timed."""

import json

import pytest

from benchmarks import studio
from benchmarks.runs import BenchmarkError


def test_the_section_holds_the_figures_and_whether_they_are_good_enough():
    times = {False: [1.0, 1.0, 9.0], True: [1.02, 1.0, 1.02]}
    text = studio.section(2.5, {"resident": 250_000_000, "anonymous": 150_000_000}, 20.0, 5.0, times)

    assert text.startswith("## The page in a browser")
    assert "| slowdown of training by an open page, % | ≤ 3.00 | 2.00 | met |" in text
    assert "| from the click to an image with the model loaded, s | ≤ 4.00 | 5.00 | not met |" in text
    assert "| memory of the page's process without a model | 250 MB |" in text


def test_the_seconds_of_a_step_are_those_that_the_run_recorded(tmp_path):
    record = {"settings": {"max_train_steps": 18}, "figures": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(BenchmarkError, match="has not ended"):
        studio.seconds_of_a_step(tmp_path)
    record["figures"] = {"seconds": {"training": 9.0, "saving": 4.0}}
    (tmp_path / "run.json").write_text(json.dumps(record))

    assert studio.seconds_of_a_step(tmp_path) == 0.5
