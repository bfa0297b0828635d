"""A short form of the harness that kills runs; its full form prints the figures of the README."""

import subprocess
import sys

from conftest import ROOT


def test_killed_runs_lose_nothing():
    command = [sys.executable, str(ROOT / "benchmarks" / "kill_and_resume.py"), "--every", "24", "--random", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)

    assert done.returncode == 0, done.stdout + done.stderr
    killed = int(done.stdout.partition("kills in all")[2].split()[0])
    runs = done.stdout.partition("equal to the untouched one")[2].split()
    assert killed >= 6 and runs[0] == runs[2]
    assert "not whole 0" in done.stdout and "temporary files at the end    0" in done.stdout
