"""Commands as children: their threads, their environment, their end, and what they said."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.cluster import child as children
from textual_inversion.cluster.child import Child
from textual_inversion.system.addresses import VARIABLE
from textual_inversion.system.errors import OutputError
from textual_inversion.system.output_lock import locked


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Lets the commands be a script with this text."""

    def put(text: str) -> None:
        (tmp_path / "command.py").write_text(text)
        monkeypatch.setattr(children, "script_file", lambda command: tmp_path / "command.py")

    return put


def test_a_child_gets_its_threads_and_none_of_the_clusters_secrets():
    given = {"HOME": "/h", "RAY_AUTH_TOKEN": "s", "RAY_JOB_ID": "1", "PADDLE_TRAINERS_NUM": "2",
             "OMP_NUM_THREADS": "7", "PYTHONPATH": "/p"}  # fmt: skip

    own = children.environment(given, Child(".", threads=4, processes=2))

    assert own == {"HOME": "/h", "OMP_NUM_THREADS": "2", "PYTHONPATH": f"{ROOT}{os.pathsep}/p", "PYTHONUNBUFFERED": "1"}


def test_a_child_is_told_which_address_its_folder_stands_for_and_nothing_of_its_parents():
    given = {VARIABLE: "s3://bucket/other\n/other"}

    assert VARIABLE not in children.environment(given, Child("."))
    told = children.environment(given, Child(".", place="s3://bucket/run\n/here/run"))[VARIABLE]
    text = "from textual_inversion.system.addresses import address_of; print(address_of('/here/run/trials/000'))"
    variables = {**os.environ, VARIABLE: told, "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", text], env=variables, capture_output=True, text=True, check=True)
    assert said.stdout == "s3://bucket/run/trials/000\n"


def test_several_processes_run_under_the_launcher():
    start = children._start("train", Child(".", processes=2))
    cards = children._start("train", Child(".", processes=2, is_on_cards=True))

    assert start[1:] == ["-u", "-m", "paddle.distributed.launch", "--nproc_per_node", "2",
                         str(ROOT / "train_textual_inversion.py")]  # fmt: skip
    assert cards[4:6] == ["--devices", "0,1"]


def test_what_a_child_prints_is_kept_and_its_error_is_told(tmp_path, script):
    script("import sys; print('hello', sys.argv[1:]); print('error: --lr is no flag', file=sys.stderr); sys.exit(2)")
    log = tmp_path / "a.log"

    ended = children.run("train", ["--x", "1"], Child(str(tmp_path)), log)
    script("import os; os.kill(os.getpid(), 9)")
    killed = children.run("train", [], Child(str(tmp_path)), log)

    assert (ended.status, ended.error) == (children.REFUSED, "--lr is no flag")
    assert (killed.status, killed.error) == (-9, "ended by signal 9"), "the error of an earlier child is not its own"
    assert log.read_text().startswith("hello ['--x', '1']")


def test_a_child_that_has_done_enough_ends_in_an_orderly_way(tmp_path, script):
    script("import signal, sys, time, pathlib\n"
           "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('end').touch(), sys.exit(143)))\n"
           "pathlib.Path('begun').touch()\ntime.sleep(60)\n")  # fmt: skip

    ended = children.run("train", [], Child(str(tmp_path)), tmp_path / "a.log",
                         is_enough=lambda: (tmp_path / "begun").exists())  # fmt: skip

    assert ended.status == 143 and (tmp_path / "end").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_child_does_not_outlive_a_parent_that_was_killed(tmp_path, script):
    script("import os, time, pathlib\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(60)\n")
    parent = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path\n"
        "from textual_inversion.cluster import child\n"
        f"child.script_file = lambda command: Path({str(tmp_path / 'command.py')!r})\n"
        f"child.run('train', [], child.Child({str(tmp_path)!r}), Path({str(tmp_path / 'a.log')!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    _until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pid = int((tmp_path / "pid").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()

    _until(lambda: not _is_running(pid))


def _until(is_so, seconds=20):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_folder_is_waited_for_while_another_process_writes_into_it(tmp_path):
    children.wait_until_free(tmp_path / "none")
    with locked(tmp_path), pytest.raises(OutputError, match="another run"):
        children.wait_until_free(tmp_path, seconds=0.3)
    children.wait_until_free(tmp_path, seconds=0.3)


@pytest.mark.parametrize("make", [lambda log, other: log.symlink_to(other), lambda log, other: log.hardlink_to(other),
                                  lambda log, other: log.mkdir(), lambda log, other: os.mkfifo(log)])  # fmt: skip
def test_nothing_is_added_to_what_a_stranger_put_in_place_of_a_log(tmp_path, script, make):
    script("print('hello')")
    (tmp_path / "other").write_text("mine")
    make(tmp_path / "a.log", tmp_path / "other")

    with pytest.raises(OutputError, match="a.log"):
        children.run("train", [], Child(str(tmp_path)), tmp_path / "a.log")
    assert (tmp_path / "other").read_text() == "mine"
