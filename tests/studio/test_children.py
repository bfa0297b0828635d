"""Processes that outlive the page: found again by their folder, told apart from others, stopped; their last words."""

import os
import signal
import subprocess
import sys
import time

import pytest

from helpers.paths import ROOT
from textual_inversion.studio import children
from textual_inversion.studio.workspace import Workspace
from textual_inversion.system.errors import OutputError, SettingsError

WAITS = (
    "import signal, sys, time; print('step 3/10  loss 0.1  0:01 elapsed, 0:02 remaining', flush=True)\ntime.sleep(60)"
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / "ws")


@pytest.fixture
def folder(workspace):
    path = workspace.part("runs") / "a"
    path.mkdir()
    yield path
    job = children.job_of(workspace, path)
    if job is not None and job.is_alive:
        os.kill(job.pid, signal.SIGKILL)


def wait_until(test, seconds=20.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end
        time.sleep(0.02)


def python(program):
    return [sys.executable, "-u", "-c", program]


def test_a_process_is_found_again_by_its_folder_and_stopped(workspace, folder):
    job = children.start(workspace, folder, python(WAITS))
    wait_until(lambda: children.log_tail(workspace, folder))

    found = children.job_of(workspace, folder)
    assert found == job and found.is_alive and os.getsid(job.pid) == job.pid != os.getsid(0)
    assert children.progress_in(children.log_tail(workspace, folder)) == (3, 10, "0:02")
    with pytest.raises(SettingsError, match="at work on a already"):
        children.start(workspace, folder, python(WAITS))

    children.stop(workspace, folder)
    wait_until(lambda: not children.job_of(workspace, folder).is_alive)
    ended = children.job_of(workspace, folder)
    assert ended.is_stopped and ended.status == -signal.SIGTERM
    children.forget(workspace, folder)
    assert children.job_of(workspace, folder) is None


def test_it_survives_the_page_and_is_found_by_the_next_one(workspace, folder):
    start = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from textual_inversion.studio import children; from textual_inversion.studio.workspace import Workspace\n"
        f"w = Workspace.at({str(workspace.folder)!r})\n"
        f"children.start(w, w.part('runs') / 'a', [sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    )
    subprocess.run(python(start), check=True)

    job = children.job_of(workspace, folder)
    assert job.is_alive and job.status is None
    os.kill(job.pid, signal.SIGKILL)
    wait_until(lambda: not children.job_of(workspace, folder).is_alive)


def test_another_process_with_the_same_id_is_not_taken_for_it(workspace, folder):
    job = children.start(workspace, folder, python(WAITS))
    assert job.is_alive
    from dataclasses import replace

    assert not replace(job, started=job.started - 1).is_alive  # it began at another moment
    assert not replace(job, boot="another").is_alive  # the machine was started anew
    children._own.clear()
    assert not replace(job, pid=os.getpid()).is_alive


def test_a_record_that_is_damaged_counts_as_none(workspace, folder):
    children.start(workspace, folder, python("pass"))
    record = workspace.job_folder(folder) / "job.json"
    for content in ("", "[]", "{}", '{"argv": 1}', "{" * 100):
        record.write_text(content)
        assert children.job_of(workspace, folder) is None


def test_what_cannot_be_started_is_said_in_a_line(workspace, folder):
    with pytest.raises(OutputError, match="nowhere cannot be started"):
        children.start(workspace, folder, ["/nowhere"])


LAST_WORDS = [
    (["step 1/2  loss 1", "error: no room; free some"], "error: no room; free some"),
    (["loading", "step 1/2  loss 1", "step 2/2  loss 1"], "loading"),
    (["Traceback (most recent call last):", "  File", "ValueError: x"], "ValueError: x"),
    (["loading", "stopped by SIGTERM after step 3 of 9"], "stopped by SIGTERM after step 3 of 9"),
    ([], ""),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "word"), LAST_WORDS)
def test_the_last_word_is_the_line_that_says_how_it_ended(lines, word):
    assert children.last_word([line for line in lines if line]) == word


def test_of_a_long_log_the_end_is_read(tmp_path):
    (tmp_path / "log.txt").write_text("".join(f"line {i}\n" for i in range(100_000)) + "bar 1\rbar 2\nlast\n")

    lines = children.tail(tmp_path / "log.txt")
    assert lines[-3:] == ["bar 1", "bar 2", "last"] and lines[0].startswith("line ") and len(lines) < 10_000
    assert children.tail(tmp_path / "nowhere") == []


def test_a_short_command_gives_its_status_and_its_lines():
    assert children.run_briefly(python("print('a'); raise SystemExit(3)")) == (3, ["a"])
    status, lines = children.run_briefly(python("import time; time.sleep(30)"), seconds=0.5)
    assert status == 2 and lines[0].startswith("error: it took more than")
