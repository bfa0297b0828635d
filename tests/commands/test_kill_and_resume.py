"""A short form of the harness that kills runs; its full form prints the figures of the README."""

import subprocess
import sys

import pytest

from helpers.paths import ROOT


@pytest.mark.slow
def test_killed_runs_lose_nothing():
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_and_resume.py"), "--every", "24", "--random", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)

    assert done.returncode == 0, done.stdout + done.stderr
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines() if "|" in line]
    figures = {name: values for name, *values in cells}
    assert done.stdout.startswith("## Killed runs") and "revision:" in done.stdout
    assert int(figures["kills in all"][0]) >= 6
    assert figures["resumed runs"] == figures["resumed runs equal to the untouched one"] != ["0"]
    for what in ("files that are not whole", "temporary files left behind"):
        assert figures[what] == ["≤ 0", "0", "met"]
