import contextlib
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from helpers.paths import ROOT
from textual_inversion.system import atomic, temporary_files
from textual_inversion.system.errors import OutputError
from textual_inversion.system.watchers import watched

STEPS_OF_A_FILE = ["create", "write", "flush", "rename"]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def fail_at(monkeypatch, step: str, error: BaseException) -> None:
    def fail(name: str) -> None:
        if name == step:
            raise error

    monkeypatch.setattr(atomic, "_step", fail)


def test_bytes_text_and_json_arrive(tmp_path):
    atomic.write_bytes(tmp_path / "b", b"\x00" * (3 * atomic.CHUNK + 1))
    atomic.write_text(tmp_path / "t", "猫")
    atomic.write_json(tmp_path / "j", {"word": "猫"})
    assert (tmp_path / "b").stat().st_size == 3 * atomic.CHUNK + 1
    assert (tmp_path / "t").read_bytes() == "猫".encode()
    assert json.loads((tmp_path / "j").read_bytes()) == {"word": "猫"}
    assert names(tmp_path) == ["b", "j", "t"]


def test_parts_arrive_together_or_not_at_all(tmp_path):
    def parts(count):
        for number in range(count):
            yield b"%d" % number
        if count > 3:
            raise KeyError("broken off")

    atomic.write_parts(tmp_path / "a", parts(3))
    with pytest.raises(KeyError):
        atomic.write_parts(tmp_path / "a", parts(4))

    assert (tmp_path / "a").read_bytes() == b"012" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_temporary_file_is_hidden_beside_its_target(tmp_path):
    with atomic.replacing(tmp_path / "weights") as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".weights.tmp-{os.getpid()}-")
        assert not (tmp_path / "weights").exists()
    assert (tmp_path / "weights").read_bytes() == b"new"


@pytest.mark.parametrize("step", STEPS_OF_A_FILE)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_failure_at_any_step_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch, step, number):
    (tmp_path / "f").write_bytes(b"old")
    fail_at(monkeypatch, step, OSError(number, os.strerror(number)))
    with pytest.raises(OutputError, match=r"cannot write .*/f: ") as caught:
        atomic.write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old" and names(tmp_path) == ["f"]
    assert "\n" not in str(caught.value)


def test_an_interruption_passes_through_and_leaves_nothing(tmp_path, monkeypatch):
    fail_at(monkeypatch, "flush", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(tmp_path / "f", b"new")
    assert names(tmp_path) == []


def test_an_error_of_the_writer_is_its_own(tmp_path):
    with pytest.raises(ValueError, match="mine"), atomic.replacing(tmp_path / "f"):
        raise ValueError("mine")
    assert names(tmp_path) == []


def kill_at(step: str, call: str) -> int:
    """Status of a process that is killed at `step` of the save `call`."""
    program = f"""
        import os, signal, sys
        sys.path.insert(0, {str(ROOT)!r})
        from textual_inversion.system import atomic, temporary_files
        atomic._step = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == {step!r} else None
        {call}
    """
    return subprocess.run([sys.executable, "-c", textwrap.dedent(program)]).returncode


def killed_ones_token(folder: Path) -> str | None:
    """Of the process whose temporary file lies in a folder."""
    left = [name for name in names(folder) if temporary_files.is_temporary(name)]
    return left[0].split("-")[-2] if left else None


@pytest.mark.parametrize("step", [*STEPS_OF_A_FILE, "flush-folder"])
def test_a_killed_process_leaves_the_old_file_or_the_new_one(tmp_path, step):
    (tmp_path / "f").write_bytes(b"old")
    assert kill_at(step, f"atomic.write_bytes({str(tmp_path / 'f')!r}, b'new')") == -signal.SIGKILL
    assert (tmp_path / "f").read_bytes() == (b"new" if step == "flush-folder" else b"old")
    token = killed_ones_token(tmp_path)
    for others in ("0" * 16, None):
        assert temporary_files.remove_leftovers(tmp_path, others) == []
    temporary_files.remove_leftovers(tmp_path, token)
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("step", ["create", "flush", "exchange"])
def test_a_killed_process_leaves_the_old_folder_whole(tmp_path, step):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "state").write_bytes(b"old")
    call = f"with atomic.fill_folder({str(tmp_path / 'c')!r}) as f: (f / 'state').write_bytes(b'new')"
    assert kill_at(step, call) == -signal.SIGKILL
    assert (tmp_path / "c" / "state").read_bytes() == b"old"
    temporary_files.remove_leftovers(tmp_path, killed_ones_token(tmp_path))
    assert names(tmp_path) == ["c"]


def test_what_a_killed_check_of_a_folder_leaves_goes_with_the_next_check_and_nothing_else_does(tmp_path):
    (tmp_path / ".writable").write_bytes(b"a user's own")
    others = tmp_path / f"..writable.tmp-{os.getppid()}-{temporary_files.TOKEN}-0123abcd"  # of a process that runs
    others.touch()
    assert kill_at("remove", f"atomic.check_writable({str(tmp_path)!r})") == -signal.SIGKILL
    assert len(names(tmp_path)) == 3

    atomic.check_writable(tmp_path)

    assert names(tmp_path) == [others.name, ".writable"]
    assert (tmp_path / ".writable").read_bytes() == b"a user's own"


def test_a_folder_that_may_be_written_but_not_listed_can_be_checked(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError("it may not be listed")  # for root, the system refuses nothing

    with monkeypatch.context() as patched:
        patched.setattr(os, "listdir", refused)
        patched.setattr(os, "scandir", refused)
        with pytest.raises(PermissionError):
            list(tmp_path.iterdir())
        atomic.check_writable(tmp_path)
    assert names(tmp_path) == []


def test_two_checks_of_a_folder_that_take_each_other_for_leftovers_both_succeed(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary_files, "_is_another_process", lambda pid: False)
    monkeypatch.setattr(temporary_files, "_open_temporaries", frozenset())  # as on another machine
    monkeypatch.setattr(atomic, "removed_on_failure", lambda path: contextlib.nullcontext())
    within = []

    def step(name):
        if name == "remove" and not within:
            within.append(1)
            atomic.check_writable(tmp_path)

    monkeypatch.setattr(atomic, "_step", step)
    atomic.check_writable(tmp_path)

    assert within and names(tmp_path) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_come_from_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        atomic.write_bytes(tmp_path / "f", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def test_a_replaced_file_hands_its_permissions_on(tmp_path):
    (tmp_path / "f").touch(mode=0o600)
    atomic.write_bytes(tmp_path / "f", b"new")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


@pytest.mark.parametrize("target", ["elsewhere/target", "elsewhere", "absent", "link"])
def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path, target):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / target)
    atomic.write_bytes(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink() and (tmp_path / "link").read_bytes() == b"new"
    assert (tmp_path / "elsewhere" / "target").read_bytes() == b"old" and not (tmp_path / "absent").exists()


@pytest.mark.parametrize("target", ["elsewhere", "absent"])
def test_a_link_is_replaced_by_a_folder_and_what_it_points_to_stays(tmp_path, target):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / target)
    with atomic.fill_folder(tmp_path / "link") as folder:
        atomic.write_new(folder / "f", b"new")
    assert not (tmp_path / "link").is_symlink() and names(tmp_path / "link") == ["f"]
    assert names(tmp_path / "elsewhere") == ["target"]


def test_a_second_name_is_given_and_replaces_what_had_it(tmp_path, monkeypatch):
    (tmp_path / "base").write_bytes(b"weights")
    for _ in range(2):  # the second time it is the same file already
        atomic.put_link(tmp_path / "base", tmp_path / "f")
        assert (tmp_path / "f").samefile(tmp_path / "base") and names(tmp_path) == ["base", "f"]
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    atomic.put_link(tmp_path / "base", tmp_path / "f")
    assert not (tmp_path / "f").samefile(tmp_path / "base") and (tmp_path / "f").read_bytes() == b"weights"


class Told:
    """A watcher that writes down what it is told, and may refuse."""

    def __init__(self, folder, refuses=()):
        self.folder, self.told, self._refuses = folder, [], refuses

    def _tell(self, what, *more):
        self.told.append((what, *more))
        if what in self._refuses:
            raise OutputError(f"not allowed: {what}")

    def will_begin(self, target):
        self._tell("begin", target.name)

    def will_write(self, files):
        self._tell("write", {target.name: source.read_bytes() for target, source in files.items()})

    def written(self, target):
        self._tell("written", target.name)

    def may_replace(self, folder, names):
        self._tell("replace", folder.name, sorted(names))

    def may_remove(self, path):
        self._tell("remove", path.name)

    def removed(self, path):
        self._tell("removed", path.name)


def test_a_watcher_hears_of_everything_below_its_folder_and_of_nothing_else(tmp_path):
    (tmp_path / "in").mkdir()
    watcher = Told(tmp_path / "in")
    with watched(watcher):
        atomic.write_bytes(tmp_path / "outside", b"0")
        atomic.write_bytes(tmp_path / "in" / "f", b"1")
        with atomic.fill_folder(tmp_path / "in" / "c") as folder:
            atomic.write_new(folder / "g", b"2")
        atomic.remove_folder(tmp_path / "in" / "c")
        atomic.remove_file(tmp_path / "in" / "f")
    atomic.write_bytes(tmp_path / "in" / "later", b"3")

    assert watcher.told == [
        ("begin", "f"),
        ("write", {"f": b"1"}),
        ("written", "f"),
        ("begin", "c"),
        ("replace", "c", ["g"]),
        ("write", {"g": b"2"}),
        ("written", "c"),
        ("remove", "c"),
        ("removed", "c"),
        ("remove", "f"),
        ("removed", "f"),
    ]


@pytest.mark.parametrize("what", ["begin", "write", "replace", "remove"])
def test_what_a_watcher_refuses_does_not_happen(tmp_path, what):
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "old").touch()
    calls = [lambda: atomic.write_bytes(tmp_path / "f", b"new")] if what in ("begin", "write") else []
    calls += [lambda: atomic.fill_folder(tmp_path / "c").__enter__()] if what == "begin" else []
    calls += [lambda: fill(tmp_path / "c")] if what in ("write", "replace") else []
    calls += [lambda: atomic.remove_folder(tmp_path / "c"), lambda: atomic.remove_file(tmp_path / "f")] * (
        what == "remove"
    )
    with watched(Told(tmp_path, refuses=(what,))):
        for call in calls:
            with pytest.raises(OutputError, match="not allowed"):
                call()
    assert names(tmp_path) == ["c", "f"] and names(tmp_path / "c") == ["old"]
    assert (tmp_path / "f").read_bytes() == b"old"


def fill(folder: Path) -> None:
    with atomic.fill_folder(folder) as temporary:
        atomic.write_new(temporary / "new", b"")


def test_below_a_watched_folder_no_folder_on_the_way_may_be_a_link(tmp_path):
    for name in ("in", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "samples").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "f").touch()
    target = tmp_path / "in" / "samples" / "f"
    with watched(Told(tmp_path / "in")):
        for call in (
            lambda: atomic.write_bytes(target, b"new"),
            lambda: fill(target),
            lambda: atomic.remove_file(target),
            lambda: atomic.make_folder(target.parent),
        ):
            with pytest.raises(OutputError, match="samples is a symbolic link, and nothing is written through one"):
                call()
    assert (tmp_path / "elsewhere" / "f").read_bytes() == b""


def test_a_hard_linked_file_keeps_its_content_under_the_other_name(tmp_path):
    (tmp_path / "base").write_bytes(b"base model")
    os.link(tmp_path / "base", tmp_path / "f")
    atomic.write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "base").read_bytes() == b"base model"
    assert (tmp_path / "f").read_bytes() == b"new"


def test_what_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "output").symlink_to("/proc/self/fd/1")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in {
        "absent/f": "does not exist; create it first",
        "file/f": "is not a folder",
        "folder": "a folder has that name",
        "output": "a device or a pipe",
        "pipe": "a device or a pipe",
        "n" * 300: "too long",
    }.items():
        with pytest.raises(OutputError, match=reason):
            atomic.write_bytes(tmp_path / path, b"")
    assert names(tmp_path) == ["file", "folder", "output", "pipe"] and names(tmp_path / "folder") == []


def test_a_device_is_not_replaced():
    with pytest.raises(OutputError, match="a device or a pipe"):
        atomic.write_bytes("/dev/null", b"")


def test_a_name_of_full_length_can_be_written(tmp_path):
    name = "猫" * 85  # 255 bytes
    atomic.write_bytes(tmp_path / name, b"x")
    assert names(tmp_path) == [name]


def test_a_folder_appears_complete(tmp_path):
    with atomic.fill_folder(tmp_path / "checkpoint-1") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "state").write_bytes(b"1")
        assert not (tmp_path / "checkpoint-1").exists()
    assert (tmp_path / "checkpoint-1" / "deep" / "state").read_bytes() == b"1"
    assert names(tmp_path) == ["checkpoint-1"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_whole(tmp_path, monkeypatch, exchange):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "old").touch()
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    with atomic.fill_folder(tmp_path / "c") as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["c"] and names(tmp_path / "c") == ["new"]


@pytest.mark.parametrize("step", ["create", "flush", "exchange"])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path, monkeypatch, step):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "old").touch()
    fail_at(monkeypatch, step, OSError(errno.ENOSPC, "full"))
    with pytest.raises(OutputError, match="disk is full"), atomic.fill_folder(tmp_path / "c") as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["c"] and names(tmp_path / "c") == ["old"]


def test_a_folder_does_not_replace_a_file(tmp_path):
    (tmp_path / "c").touch()
    with pytest.raises(OutputError, match="a file has that name"), atomic.fill_folder(tmp_path / "c"):
        pytest.fail("must not be reached")


def test_a_folder_that_cannot_be_opened_is_not_flushed(tmp_path, monkeypatch):
    """As on Windows, and as where a folder may be written and not read."""
    plain = os.open

    def refuse(path, flags, *more):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path, flags, *more)

    monkeypatch.setattr(os, "open", refuse)

    atomic.write_text(tmp_path / "f", "new")

    assert (tmp_path / "f").read_text() == "new" and os.listdir(tmp_path) == ["f"]


def test_a_folder_that_is_removed_loses_its_name_before_anything_in_it_goes(tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint-2"
    with atomic.fill_folder(folder) as temporary:
        atomic.write_new(temporary / "a", b"1" * 10)
    seen = []
    monkeypatch.setattr(atomic, "_step", lambda name: seen.append((name, folder.exists())))

    atomic.remove_folder(folder)

    assert seen == [("rename", True), ("remove", False)] and not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="checkpoint-2"):
        atomic.remove_folder(folder)


def test_a_new_file_in_a_folder_replaces_none(tmp_path):
    atomic.write_new(tmp_path / "a", b"1")
    with pytest.raises(FileExistsError):
        atomic.write_new(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"1"
