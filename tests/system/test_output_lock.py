"""One run at a time in an output folder."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import train_textual_inversion
from helpers.paths import ROOT
from helpers.training_runs import short_run
from textual_inversion.system.errors import OutputError
from textual_inversion.system.output_lock import FILE_NAME, locked, waited_for

HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from textual_inversion.system.output_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """A living process that holds the lock of a folder."""
    command = [sys.executable, "-c", HOLDER.format(root=str(ROOT)), str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_by_the_first_ones_name_and_changes_nothing(tmp_path, holder):
    (tmp_path / "learned_embeds.pdparams").write_bytes(b"the first one's")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(OutputError, match=f"another run .process {holder.pid} on .* choose another --output_dir"):
        train_textual_inversion.main(["--output_dir", str(tmp_path)])

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert (tmp_path / FILE_NAME).exists()
    with locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / FILE_NAME).read_text()
    assert not list(tmp_path.iterdir())


def test_the_lock_is_given_back_after_an_error_too(tmp_path):
    with pytest.raises(ValueError), locked(tmp_path):
        raise ValueError
    with locked(tmp_path), pytest.raises(OutputError), locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def make_link(path):
    path.with_name("secret").write_text("mine")
    path.symlink_to(path.with_name("secret"))


def make_hard_link(path):
    path.with_name("secret").write_text("mine")
    os.link(path.with_name("secret"), path)


def make_foreign(path):
    path.touch()
    os.chown(path, 12345, -1)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


STRANGE = {
    "a link": make_link,
    "a broken link": lambda path: path.symlink_to("absent"),
    "a circle": lambda path: path.symlink_to(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "another name of a file": make_hard_link,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a socket": make_socket,
    "of another user": make_foreign,
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("lock", [locked, lambda folder: waited_for(folder / FILE_NAME)])
def test_whatever_lies_where_the_lock_should_is_one_line_and_stays(tmp_path, monkeypatch, kind, lock):
    monkeypatch.chdir(tmp_path)
    if kind == "of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    STRANGE[kind](tmp_path / FILE_NAME)
    before = sorted((path.name, path.lstat().st_mode, path.lstat().st_size) for path in tmp_path.iterdir())

    with (
        pytest.raises(OutputError, match=r"\.lock .*(remove it|choose another --output_dir)") as caught,
        lock(tmp_path),
    ):
        pytest.fail("it was locked")

    assert "\n" not in str(caught.value)
    assert sorted((path.name, path.lstat().st_mode, path.lstat().st_size) for path in tmp_path.iterdir()) == before


def test_a_file_system_without_locks_holds_nothing(tmp_path, monkeypatch):
    import fcntl

    def unsupported(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path), locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_run_into_the_folder_of_an_ended_one_says_that_files_are_replaced(tmp_path, capsys):
    argv = short_run(tmp_path, "--only_save_embeds", "--eval_steps", "0", "--max_train_steps", "1")
    for _ in range(2):
        capsys.readouterr()
        train_textual_inversion.main(argv)
    assert "the files of an earlier run in" in capsys.readouterr().out
    assert not list((tmp_path / "out").glob(".*"))


def test_where_only_what_is_open_for_writing_can_be_locked_it_is_opened_so(tmp_path, monkeypatch):
    """As on NFS, which turns it into a lock of a range of bytes."""
    usual, seen = fcntl.flock, []

    def flock(descriptor, operation):
        writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
        seen.append(writes)
        if not writes:
            raise OSError(errno.EBADF, "Bad file descriptor")
        usual(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        monkeypatch.setattr(fcntl, "flock", usual)
        with pytest.raises(OutputError), locked(tmp_path):
            pytest.fail("two at once")
    assert seen == [False, True]
