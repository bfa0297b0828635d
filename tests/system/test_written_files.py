"""The list of the files that a run wrote."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

from helpers.failing_disk import FailingDisk, temporary_files
from helpers.paths import ROOT
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError
from textual_inversion.system.written_files import (
    CHECKPOINT,
    FILE_NAME,
    ChangedFileError,
    WrittenFiles,
    is_own,
    of_kind,
)


def checkpoint(folder, step=1, content=b"state"):
    with of_kind(CHECKPOINT), atomic.fill_folder(folder / f"checkpoint-{step}") as temporary:
        atomic.write_new(temporary / "state", content)
    return folder / f"checkpoint-{step}"


def listed(folder):
    return json.loads((folder / FILE_NAME).read_text())["files"]


def test_everything_that_is_written_is_listed_with_its_kind_and_nothing_else_is(tmp_path):
    (tmp_path / "diary.txt").write_text("mine")
    with WrittenFiles(tmp_path) as files:
        atomic.write_bytes(tmp_path / "a", b"1")
        atomic.make_folder(tmp_path / "samples")
        atomic.write_bytes(tmp_path / "samples" / "b", b"2")
        checkpoint(tmp_path)
        atomic.write_bytes(tmp_path.parent / "outside", b"3")
        assert files.names() == ["a", "checkpoint-1/state", "samples/b"] == sorted(listed(tmp_path))
        assert files.names(CHECKPOINT) == ["checkpoint-1/state"]
        atomic.remove_folder(tmp_path / "checkpoint-1")
        assert files.names() == ["a", "samples/b"]
    assert sorted(listed(tmp_path)) == ["a", "samples/b"]
    atomic.write_bytes(tmp_path / "later", b"4")
    assert "later" not in listed(tmp_path)


def test_a_run_that_writes_nothing_leaves_nothing(tmp_path):
    with WrittenFiles(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def change(path, how):
    if how == "edited":
        path.write_bytes(b"2")
    if how in ("gone", "a link", "a folder", "a pipe"):
        path.unlink()
    if how == "a link":
        (path.parent.parent / "same").write_bytes(b"1")  # of the very same content
        path.symlink_to(path.parent.parent / "same")
    if how == "a folder":
        path.mkdir()
    if how == "a pipe":
        os.mkfifo(path)
    if how == "behind a link":
        path.parent.rename(path.parent.parent / "moved")
        path.parent.symlink_to(path.parent.parent / "moved")


@pytest.mark.parametrize("how", ["edited", "gone", "a link", "a folder", "a pipe", "behind a link"])
def test_a_file_that_was_changed_is_said_to_be_and_neither_copied_nor_removed(tmp_path, how):
    folder = tmp_path / "out"
    folder.mkdir()
    with WrittenFiles(folder) as files:
        atomic.make_folder(folder / "in")
        atomic.write_bytes(folder / "in" / "f", b"1")
        files.copy("in/f", tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == b"1" and files.change_of("in/f") == "" and is_own(folder / "in/f")
        (tmp_path / "copy").unlink()

        change(folder / "in" / "f", how)

        assert files.change_of("in/f")
        with pytest.raises(ChangedFileError):
            files.copy("in/f", tmp_path / "copy")
        with pytest.raises(ChangedFileError), files.opened("in/f"):
            pytest.fail("opened")
        if how != "gone":
            assert not is_own(folder / "in")
            with pytest.raises(OutputError):
                atomic.remove_file(folder / "in" / "f")
            with pytest.raises(OutputError):
                atomic.remove_folder(folder / "in")
            assert os.path.lexists(folder / "in" / "f")
    assert not (tmp_path / "copy").exists() and not temporary_files(tmp_path)


def test_a_large_file_gets_a_second_name(tmp_path, monkeypatch):
    monkeypatch.setattr("textual_inversion.system.written_files._LARGE", 4)
    (tmp_path / "out").mkdir()
    with WrittenFiles(tmp_path / "out") as files:
        atomic.write_bytes(tmp_path / "out" / "f", b"weights")
        files.copy("f", tmp_path / "copy")
        assert (tmp_path / "copy").samefile(tmp_path / "out" / "f")
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError("another disk")))
        files.copy("f", tmp_path / "other")
        assert (tmp_path / "other").read_bytes() == b"weights"


def test_a_folder_with_anything_of_others_is_neither_removed_nor_replaced_by_one_without_it(tmp_path):
    with WrittenFiles(tmp_path) as files:
        folder = checkpoint(tmp_path)
        (folder / "diary.txt").write_text("mine")
        assert not files.is_own(folder)
        with pytest.raises(OutputError, match="checkpoint-1: diary.txt in it is not of this run; move it"):
            checkpoint(tmp_path, content=b"newer")
        with pytest.raises(OutputError, match="stays"):
            atomic.remove_folder(folder)
        assert (folder / "diary.txt").read_text() == "mine" and (folder / "state").read_bytes() == b"state"
        (folder / "diary.txt").unlink()
        checkpoint(tmp_path, content=b"newer")
        atomic.remove_folder(folder)


def test_a_resumed_run_goes_on_with_the_list_of_its_earlier_part_and_another_does_not(tmp_path):
    with WrittenFiles(tmp_path):
        atomic.write_bytes(tmp_path / "a", b"1")
        folder = checkpoint(tmp_path)
    whole = (tmp_path / FILE_NAME).read_bytes()

    resumed = WrittenFiles(tmp_path)
    assert resumed.continue_from(folder) and resumed.names() == ["a", "checkpoint-1/state"]
    with WrittenFiles(tmp_path) as other:
        assert other.names() == []
        atomic.write_bytes(tmp_path / "b", b"1")
    assert list(listed(tmp_path)) == ["b"]

    (tmp_path / FILE_NAME).write_bytes(whole)
    for damage in (lambda: (folder / "state").write_bytes(b"x"), lambda: (folder / "state").unlink()):
        damage()
        assert not WrittenFiles(tmp_path).continue_from(folder)
    assert not WrittenFiles(tmp_path).continue_from(tmp_path / "checkpoint-2")
    assert not WrittenFiles(tmp_path).continue_from(tmp_path.parent / "checkpoint-1")


@pytest.mark.parametrize("step", ["create", "write", "flush", "rename", "flush-folder"])
@pytest.mark.parametrize("saves", [1, 2, 3, 4])
def test_whenever_a_process_is_killed_each_of_its_files_is_listed_and_its_leftovers_go(tmp_path, step, saves):
    """The file that it was about to replace stays listed too."""
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from textual_inversion.system import atomic
        from textual_inversion.system.written_files import WrittenFiles
        out, seen = Path({str(tmp_path)!r}), []
        def at(name):
            seen.append(name)
            if name == {step!r} and seen.count(name) == {saves}:
                os.kill(os.getpid(), signal.SIGKILL)
        atomic._step = at
        with WrittenFiles(out):
            atomic.write_bytes(out / "f", b"old")
            atomic.write_bytes(out / "f", b"new")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)])
    assert done.returncode == -signal.SIGKILL

    files = WrittenFiles(tmp_path)
    files._entries = files._earlier
    if (tmp_path / "f").exists():
        assert files.change_of("f") == ""
    with files:
        assert not temporary_files(tmp_path)


def test_leftovers_of_another_process_stay_also_in_a_folder_of_its_own_below(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with WrittenFiles(tmp_path):
        atomic.write_bytes(tmp_path / "f", b"")
    token = json.loads((tmp_path / FILE_NAME).read_text())["process"]
    (tmp_path / "a").mkdir()
    own = [tmp_path / f".x.tmp-{ended.pid}-{token}-0123abcd", tmp_path / "a" / f".x.tmp-{ended.pid}-{token}-0123abcd"]
    other = [tmp_path / f".x.tmp-{ended.pid}-{'1' * 16}-0123abcd", tmp_path / "a" / f".x.tmp-{ended.pid}-0123abcd"]
    for folder in own + other:
        folder.mkdir()
        (folder / "half").touch()

    with WrittenFiles(tmp_path):
        assert not any(folder.exists() for folder in own) and all(folder.exists() for folder in other)


def test_a_file_that_cannot_be_listed_is_not_written(tmp_path, monkeypatch):
    disk = FailingDisk(monkeypatch)
    with WrittenFiles(tmp_path) as files:
        atomic.write_bytes(tmp_path / "f", b"old")
        steps = disk.steps
        for failing in range(40):
            disk.steps, disk.fails = steps, lambda step, failing=failing: step == steps + failing
            try:
                atomic.write_bytes(tmp_path / "f", b"new")
            except OutputError:
                assert files.change_of("f") == "" and not temporary_files(tmp_path)
                continue
            break
        assert failing > 6 and (tmp_path / "f").read_bytes() == b"new" and files.change_of("f") == ""


WRONG = [
    "",
    "[]",
    "{}",
    "[" * 20_000,
    '{"format": 2, "process": "0123456789abcdef", "files": {}}',
    '{"format": 1, "process": "..", "files": {}}',
    '{"format": 1, "process": 3, "files": {}}',
    '{"format": 1, "process": "0123456789abcdef", "files": []}',
    '{"format": 1, "process": "0123456789abcdef", "files": {"../x": {"sha256": "%s"}}}' % ("0" * 64),
    '{"format": 1, "process": "0123456789abcdef", "files": {"/etc/passwd": {"sha256": "%s"}}}' % ("0" * 64),
    '{"format": 1, "process": "0123456789abcdef", "files": {"x": {"sha256": "0"}}}',
    '{"format": 1, "process": "0123456789abcdef", "files": {"x": {"sha256": 5}}}',
    '{"format": 1, "process": "0123456789abcdef", "files": {"x": {"sha256": "%s", "kind": "y"}}}' % ("0" * 64),
    '{"format": 1, "process": "0123456789abcdef", "files": {"x": {"sha256": "%s", "z": 1}}}' % ("0" * 64),
    '{"format": 1, "process": "0123456789abcdef", "files": {"x": 7}}',
]


@pytest.mark.parametrize("content", WRONG)
def test_a_file_of_that_name_that_is_no_list_stays_and_is_named(tmp_path, content):
    (tmp_path / FILE_NAME).write_text(content)
    with pytest.raises(OutputError, match="files.json is not the list of files that this program keeps"):
        WrittenFiles(tmp_path)
    assert (tmp_path / FILE_NAME).read_text() == content


def test_a_list_behind_a_link_is_not_read(tmp_path):
    (tmp_path / FILE_NAME).symlink_to("/dev/zero")
    with pytest.raises(OutputError, match="files.json is not the list"):
        WrittenFiles(tmp_path)
