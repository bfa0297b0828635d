"""The arithmetic of the page's benchmark; nothing is timed."""

import subprocess
import sys

import pytest

from benchmarks import studio
from benchmarks.runs import BenchmarkError


def test_the_section_holds_the_figures_and_whether_they_are_good_enough():
    times = {False: [1.0, 1.0, 8.0], True: [1.16, 1.0, 10.0]}
    text = studio.section(2.5, {"resident": 250_000_000, "anonymous": 150_000_000}, 20.0, 5.0, times, 0.272, 8)

    assert text.startswith("## The page in a browser")
    assert "| slowdown of training by an open page, % | ≤ 3.00 | 2.00 | met |" in text
    assert "| what server and browser take of one processor meanwhile, by page | 3.4 % |" in text
    assert "median, and the mean with its standard error | 1.160; 1.137 ± 0.073 |" in text
    assert "| from the click to an image with the model loaded, s | ≤ 4.00 | 5.00 | not met |" in text
    assert "| memory of the page's process without a model | 250 MB |" in text


class RunOfAClock:
    """A clock that moves where somebody waits, and a run that logs ten steps more at each half second of it."""

    def __init__(self, folder):
        self.now, self._step, self._path = 0.0, 10, folder / "figures.jsonl"
        self._path.write_text('{"step": 10, "train/loss": 1}\n')

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self._step < 10 + 10 * int(self.now / 0.5 + 1e-6):
            self._step += 10
            with open(self._path, "a") as file:
                file.write(f'{{"step": {self._step}, "train/loss": 1}}\n')


def test_the_seconds_of_a_step_are_those_between_the_lines_of_a_run_that_goes_on(tmp_path, monkeypatch):
    clock = RunOfAClock(tmp_path)
    monkeypatch.setattr(studio, "time", clock)

    assert studio.seconds_of_a_step(tmp_path, 30) == pytest.approx(0.05)
    assert clock.now == pytest.approx(2.0)  # the first line that is new, and thirty steps more


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
