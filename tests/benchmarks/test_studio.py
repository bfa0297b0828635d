"""The arithmetic of the page's benchmark; nothing is timed."""

import subprocess
import sys

import pytest

from benchmarks import studio
from benchmarks.runs import BenchmarkError


def test_the_section_holds_the_figures_and_whether_they_are_good_enough():
    times = {False: [1.0, 1.0, 9.0], True: [1.02, 1.0, 1.02]}
    text = studio.section(2.5, {"resident": 250_000_000, "anonymous": 150_000_000}, 20.0, 5.0, times, 0.034)

    assert text.startswith("## The page in a browser")
    assert "| slowdown of training by an open page, % | ≤ 3.00 | 2.00 | met |" in text
    assert "| what page and browser take of one processor meanwhile | 3.4 % |" in text
    assert "| the latter by the former, in turns: mean and standard error | 0.71 ± 0.30 |" in text
    assert "| from the click to an image with the model loaded, s | ≤ 4.00 | 5.00 | not met |" in text
    assert "| memory of the page's process without a model | 250 MB |" in text


def test_the_seconds_of_a_step_are_those_between_the_lines_of_a_run_that_goes_on(tmp_path):
    """Steps 10, 20, 30 … every 0.2 seconds, as another program writes them."""
    (tmp_path / "figures.jsonl").write_text('{"step": 10, "train/loss": 1}\n')
    program = (
        "import sys, time\n"
        "for step in range(20, 400, 10):\n"
        "    time.sleep(0.2); open(sys.argv[1], 'a').write('{\"step\": %d, \"train/loss\": 1}\\n' % step)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "figures.jsonl")]) as writer:
        found = studio.seconds_of_a_step(tmp_path, 30)
        writer.kill()
    assert 0.02 <= found < 0.1


def test_what_the_children_take_of_processors_is_counted_without_the_training():
    busy = [
        sys.executable,
        "-c",
        "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ntime.sleep(60)",
    ]
    with (
        subprocess.Popen(busy, stdout=subprocess.PIPE) as page,
        subprocess.Popen(busy, stdout=subprocess.PIPE) as training,
    ):
        page.stdout.readline(), training.stdout.readline()
        found = studio.processor_seconds(training.pid)
        page.kill(), training.kill()
    assert 0.4 < found < 0.9


def test_a_training_that_ends_early_is_not_timed(tmp_path):
    (tmp_path / "figures.jsonl").write_text('{"step": 10, "train/loss": 1}\n')
    with pytest.raises(BenchmarkError, match="ended before it was timed"):
        studio.seconds_of_a_step(tmp_path, 30, lambda: False)
