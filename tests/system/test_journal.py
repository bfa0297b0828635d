"""A file of records that survives however its writer ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.system import journal
from textual_inversion.system.errors import OutputError
from textual_inversion.system.journal import Journal, is_abandoned, read

RECORDS = [{"id": 1}, {"file": "猫.png", "prompt": "line\nbreak\u2028"}, {"file": "\udce9.png"}]


def test_what_was_added_is_read(tmp_path):
    written = Journal(tmp_path / "j")
    for count, record in enumerate(RECORDS, start=1):
        written.add(record)
        assert read(tmp_path / "j") == RECORDS[:count]
    written.remove()
    written.remove()
    assert not (tmp_path / "j").exists() and read(tmp_path / "j") == []


def test_an_existing_file_is_not_written_to(tmp_path):
    (tmp_path / "j").write_text("mine")
    with pytest.raises(OutputError, match="cannot write .*j: File exists"):
        Journal(tmp_path / "j")
    assert (tmp_path / "j").read_text() == "mine"


def test_a_journal_is_abandoned_when_its_writer_has_ended(tmp_path):
    written = Journal(tmp_path / "j")
    assert not is_abandoned(tmp_path / "j")
    os.close(written._descriptor)
    assert is_abandoned(tmp_path / "j") and is_abandoned(tmp_path / "j")
    assert not is_abandoned(tmp_path / "none")


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from textual_inversion.system.journal import Journal
written = Journal(Path({path!r}))
written.add({{"id": 1}})
written.add({{"id": 2}})
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_all_it_added_and_no_lock(tmp_path):
    path = tmp_path / "j"
    done = subprocess.run([sys.executable, "-c", KILLED.format(root=str(ROOT), path=str(path))], timeout=60)
    assert done.returncode == -9 and read(path) == [{"id": 1}, {"id": 2}]
    assert is_abandoned(path)


def test_a_record_that_the_disk_refuses_leaves_no_half_line(tmp_path, monkeypatch):
    written = Journal(tmp_path / "j")
    written.add({"id": 1})
    usual = os.write

    def full(descriptor, data):
        if len(data) > 5:
            return usual(descriptor, bytes(data)[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(OutputError, match="No space left on device"):
        written.add({"id": 2222})
    monkeypatch.setattr(journal.os, "write", usual)
    written.add({"id": 3})
    assert read(tmp_path / "j") == [{"id": 1}, {"id": 3}]


@pytest.mark.parametrize("tail", [b'{"id": 2', b'{"id": 2}', b"\xff\n", b"[" * 100_000 + b"\n", b"3\n"])
def test_a_line_that_is_not_whole_or_no_record_is_passed_over(tmp_path, tail):
    (tmp_path / "j").write_bytes(b'{"id": 1}\n' + tail)
    assert read(tmp_path / "j") == [{"id": 1}]


def test_where_there_are_no_locks_nobody_calls_a_journal_abandoned(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(journal, "lock_descriptor", no_locks)
    written = Journal(tmp_path / "j")
    written.add({"id": 1})
    os.close(written._descriptor)
    assert not is_abandoned(tmp_path / "j") and read(tmp_path / "j") == [{"id": 1}]


@pytest.mark.parametrize("put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"),
                                 lambda path: path.symlink_to(path.with_name("mine"))])  # fmt: skip
def test_what_has_the_name_of_a_journal_and_is_none_is_neither_read_nor_taken_over(tmp_path, put):
    (tmp_path / "mine").write_text('{"a": 1}\n')
    put(tmp_path / "j")
    assert journal.read(tmp_path / "j") == [] and not journal.is_abandoned(tmp_path / "j")
