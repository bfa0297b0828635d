"""Atomic writes, so that nobody ever sees half a file: write a temporary file, flush it, rename it.

    write_bytes / write_text / write_json    one file
    replacing(path)                          any writer that takes a path (PIL, a pipeline, …)
    put_link(source, target)                 a second name of a file, or a copy
    make_folder(folder)                      a folder that other files are then written into
    fill_folder(folder)                      a folder that appears complete or not at all
    write_new(path, data)                    a file inside such a folder
    move(path, target)                       a file or folder under another name that is free, on the same disk
    check_writable(folder)                   that a file can be made in a folder
    remove_file(path)                        a file, or the link that has its name
    remove_folder(folder)                    a folder that disappears as a whole

All that the program writes is written through these functions. None of them follows a link: the temporary file is made
new, and renaming replaces a link that has the target's name, whose own target stays as it is. Below a watched folder
(see `watchers`) no folder on the way may be a link either.

The temporary file (see `temporary_files`) is flushed to the disk before the rename and the folder after it, so that a
power cut leaves the old file or the new one. If the target has several hard links, the old file stays under its other
names. Every failure is an `OutputError` of one line, and leaves no temporary file.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import refuse_links_below
from textual_inversion.system.temporary_files import (
    remove_leftovers,
    remove_quietly,
    removed_on_failure,
    temporary_name,
)
from textual_inversion.system.watchers import watchers_of
from textual_inversion.system.write_errors import explained

CHUNK = 1 << 20  # bytes per write call
_CHECKED_BY = ".writable"  # there is never a file of this name, only its temporary one
_RENAME_EXCHANGE = 2  # linux/fs.h
_TO_FLUSH = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows flushes only what is open for writing


def _step(name: str) -> None:
    """Called before each step of a save: create, write, flush, rename, exchange, flush-folder, remove.

    It does nothing. Tests replace it to make that step fail or to kill the process there.
    """


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` with `data` in one step; raises OutputError."""
    with replacing(path) as temporary, open(temporary, "r+b", buffering=0) as file:
        _write_all(file, data)


def write_parts(path: str | os.PathLike[str], parts: Iterable[bytes]) -> None:
    """Replace the file at `path` with parts as they come, once the last one has; raises OutputError.

    What `parts` raises leaves the file as it was.
    """
    with replacing(path) as temporary, open(temporary, "r+b", buffering=0) as file:
        for part in parts:
            _write_all(file, part)


def write_new(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a new file directly, without a temporary one: for a folder that `fill_folder` yields."""
    with open(path, "xb", buffering=0) as file:
        _write_all(file, data)


def _write_all(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data).cast("B")
    while rest:
        _step("write")
        rest = rest[file.write(rest[:CHUNK]) :]


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the file at `path` with `text` in UTF-8; raises OutputError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Replace the file at `path` with `value` as indented UTF-8 JSON; raises OutputError."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    # Only names with bytes that are no UTF-8 have something to replace, and that is how JSON writes it.
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary file beside `path`; on success it replaces `path`, on failure it is removed.

    Raises:
        OutputError: the folder is missing or not writable, the target is not a regular file, the disk is full, …
    """
    with explained(path):
        target = _checked(Path(path))
        _refuse_special(target)
        temporary = _begun(target)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        with removed_on_failure(temporary):
            _keep_permissions(target, temporary)
            yield temporary
            _flush(temporary)
            for watcher in watchers_of(target):
                watcher.will_write({target: temporary})
            _step("rename")
            os.replace(temporary, target)
            temporary.unlink(missing_ok=True)  # renaming one name of a file to its other name leaves both
        _flush_folder(target.parent)
        _tell_written(target)


@contextlib.contextmanager
def fill_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; on success it becomes `folder`, on failure it is removed.

    An existing folder stays complete until the new one replaces it.

    Raises:
        OutputError: the parent folder is missing or not writable, the target is a file, the disk is full, …
    """
    with explained(folder):
        target = _checked(Path(folder))
        if target.exists() and not target.is_dir():
            raise OutputError(f"cannot write the folder {target}: a file has that name; move it or choose another name")
        if target.is_symlink():
            target.unlink()
        temporary = _begun(target)
        temporary.mkdir()
        with removed_on_failure(temporary):
            yield temporary
            _flush_tree(temporary)
            files = {target / path.relative_to(temporary): path for path in temporary.rglob("*") if path.is_file()}
            for watcher in watchers_of(target):
                watcher.may_replace(target, {path.relative_to(target).as_posix() for path in files})
                watcher.will_write(files)
            _put_folder(temporary, target)
        _flush_folder(target.parent)
        _tell_written(target)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a file in a folder and remove it again; raises OutputError where that fails.

    What a process left that was killed between the two goes with the next check. The file is never renamed, so nothing
    is lost where another machine that shares the folder takes a check's file for such a one.
    """
    target = Path(folder) / _CHECKED_BY
    with explained(target):
        target = _checked(target)
        with contextlib.suppress(PermissionError):  # a folder may be written that may not be listed
            remove_leftovers(target.parent, None, target.name)
        temporary = _begun(target)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        with removed_on_failure(temporary):
            _step("remove")
            temporary.unlink(missing_ok=True)


def put_link(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file a second name, or copy it where the file system does not allow that; raises OutputError."""
    source = Path(source).resolve()  # a cache's snapshot holds symbolic links
    with replacing(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make a folder, and those above it, unless it is there; raises OutputError."""
    with explained(folder):
        _checked(Path(folder, "file"))
        os.makedirs(folder, exist_ok=True)
    return Path(folder)


def move(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file or a folder another name, in one step; raises OutputError, also where the name is taken."""
    with explained(target):
        source, goal = _checked(Path(path)), _checked(Path(target))
        if os.path.lexists(goal):
            raise OutputError(f"cannot write {goal}: something has that name; choose another one")
        for watcher in watchers_of(source):
            watcher.may_remove(source)
        _step("rename")
        os.rename(source, goal)
        for watcher in watchers_of(source):
            watcher.removed(source)
        _flush_folder(goal.parent)
        _tell_written(goal)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove a file, or the link that has its name, if it is there; raises OutputError."""
    with explained(path):
        target = _checked(Path(path))
        for watcher in watchers_of(target):
            watcher.may_remove(target)
        target.unlink(missing_ok=True)
        for watcher in watchers_of(target):
            watcher.removed(target)


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder. It is renamed first, so that nobody ever sees it half removed. Raises OutputError."""
    with explained(folder):
        target = _checked(Path(folder))
        for watcher in watchers_of(target):
            watcher.may_remove(target)
        aside = temporary_name(target)
        _step("rename")
        os.rename(target, aside)
        for watcher in watchers_of(target):
            watcher.removed(target)
        _step("remove")
        shutil.rmtree(aside)


# ---------------------------------------------------------------------------------------------------------- names


def _begun(target: Path) -> Path:
    """The name of the temporary file or folder of a target that is about to be made."""
    for watcher in watchers_of(target):
        watcher.will_begin(target)
    _step("create")
    return temporary_name(target)


def _tell_written(target: Path) -> None:
    for watcher in watchers_of(target):
        watcher.written(target)


def _checked(path: Path) -> Path:
    """The path, absolute; raises OutputError for one without a name, or one that leads through a link."""
    if not path.name:
        raise OutputError(f"cannot write {path}: a folder has that name; give the name of a file in it")
    target = path.absolute()
    for watcher in watchers_of(target):
        refuse_links_below(watcher.folder, target)
    return target


def _refuse_special(target: Path) -> None:
    """Refuse folders, devices and pipes: renaming onto a device or a pipe would remove it from the system."""
    if target.is_dir() and not target.is_symlink():
        raise OutputError(f"cannot write {target}: a folder has that name; give the name of a file in it")
    try:
        leads_to = os.readlink(target) if target.is_symlink() else ""
        mode = target.stat().st_mode
    except OSError:
        return
    if leads_to.startswith("/proc/") or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # such as /dev/stdout
        raise OutputError(f"cannot write {target}: it is a device or a pipe; give the name of a regular file")


# ------------------------------------------------------------------------------------------------- flush and rename


def _keep_permissions(target: Path, temporary: Path) -> None:
    """Give the temporary file the permissions of the file that it replaces; a new file gets those of the umask."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISREG((status := target.lstat()).st_mode):
            os.chmod(temporary, stat.S_IMODE(status.st_mode) & 0o777)


def _flush(path: Path) -> None:
    _step("flush")
    descriptor = os.open(path, _TO_FLUSH)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    _step("flush-folder")
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # on Windows for every folder; elsewhere a folder may be writable but not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


def _flush_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            if not os.path.islink(os.path.join(folder, name)):
                _flush(Path(folder, name))
        _flush_folder(Path(folder))


def _put_folder(temporary: Path, target: Path) -> None:
    """Give the finished folder its name. An old one is replaced in one step where the system can swap names."""
    if not target.exists():
        _step("rename")
        os.rename(temporary, target)
        return
    _step("exchange")
    if _exchange(temporary, target):
        remove_quietly(temporary)
        return
    aside = temporary_name(target)
    os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(aside, target)
        raise
    remove_quietly(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (`renameat2` of Linux); False if the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = -100  # AT_FDCWD
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), _RENAME_EXCHANGE) == 0
