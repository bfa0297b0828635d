"""Atomic writes, so that nobody ever sees half a file: write a temporary file, flush it, rename it.

    write_bytes / write_text / write_json    one file
    replacing(path)                          any writer that takes a path (PIL, a pipeline, …)
    fill_folder(folder)                      a folder that appears complete or not at all
    write_new(path, data)                    a file inside such a folder
    remove_folder(folder)                    a folder that disappears as a whole
    remove_leftovers(folder)                 temporary files that a killed process left behind

The temporary file is hidden in the folder of its target, as `.NAME.tmp-PID-RANDOM`. The file is flushed to the disk
before the rename and the folder after it, so that a power cut leaves the old file or the new one. If the target is a
symbolic link, the file that it points to is replaced and the link stays. If the target has several hard links, the old
file stays under its other names. Every failure is an `OutputError` of one line, and leaves no temporary file.
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from textual_inversion.system.errors import OutputError

CHUNK = 1 << 20  # bytes per write call
_TEMPORARY_NAME = re.compile(r"^\..+\.tmp-(\d+)-[0-9a-f]{8}$", re.DOTALL)
_LONGEST_KEPT_NAME = 180  # bytes of the target's name that the temporary name repeats; file systems end at 255
_RENAME_EXCHANGE = 2  # linux/fs.h
_ON_WINDOWS = os.name == "nt"
_TO_FLUSH = os.O_RDWR if _ON_WINDOWS else os.O_RDONLY  # Windows flushes only what is open for writing
_open_temporaries: set[str] = set()


def _step(name: str) -> None:
    """Called before each step of a save: create, write, flush, rename, exchange, flush-folder, remove.

    It does nothing. Tests replace it to make that step fail or to kill the process there.
    """


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace the file at `path` with `data` in one step; raises OutputError."""
    with replacing(path) as temporary, open(temporary, "r+b", buffering=0) as file:
        _write_all(file, data)


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
    with _explained(path):
        target = _followed(Path(path))
        _refuse_special(target)
        temporary = _temporary_name(target)
        _step("create")
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        with _removed_on_failure(temporary):
            _keep_permissions(target, temporary)
            yield temporary
            _flush(temporary)
            _step("rename")
            os.replace(temporary, target)
        _flush_folder(target.parent)


@contextlib.contextmanager
def fill_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty temporary folder beside `folder`; on success it becomes `folder`, on failure it is removed.

    An existing folder stays complete until the new one replaces it.

    Raises:
        OutputError: the parent folder is missing or not writable, the target is a file, the disk is full, …
    """
    with _explained(folder):
        target = _followed(Path(folder))
        if target.exists() and not target.is_dir():
            raise OutputError(f"cannot write the folder {target}: a file has that name; move it or choose another name")
        temporary = _temporary_name(target)
        _step("create")
        temporary.mkdir()
        with _removed_on_failure(temporary):
            yield temporary
            _flush_tree(temporary)
            _put_folder(temporary, target)
        _flush_folder(target.parent)


def remove_folder(folder: str | os.PathLike[str]) -> None:
    """Remove a folder. It is renamed first, so that nobody ever sees it half removed. Raises OutputError."""
    with _explained(folder):
        aside = _temporary_name(Path(folder))
        _step("rename")
        os.rename(folder, aside)
        _step("remove")
        shutil.rmtree(aside)


def remove_leftovers(folder: str | os.PathLike[str]) -> list[Path]:
    """Remove the temporary files of killed processes in `folder` (not below it); returns what was removed.

    Files whose name contains the id of another running process are kept.
    """
    removed = []
    for entry in sorted(Path(folder).iterdir()) if os.path.isdir(folder) else []:
        match = _TEMPORARY_NAME.match(entry.name)
        if match and str(entry) not in _open_temporaries and not _is_another_process(int(match[1])):
            _remove(entry)
            removed.append(entry)
    return removed


# ---------------------------------------------------------------------------------------------------------- names


def _temporary_name(target: Path) -> Path:
    kept = os.fsencode(target.name)[:_LONGEST_KEPT_NAME].decode("utf-8", "ignore")
    return target.with_name(f".{kept}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _followed(path: Path) -> Path:
    """The path itself, or what it points to if it is a symbolic link, so that the link survives."""
    if not path.name:
        raise OutputError(f"cannot write {path}: a folder has that name; give the name of a file in it")
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _refuse_special(target: Path) -> None:
    """Refuse folders, devices and pipes: renaming onto a device or a pipe would remove it from the system."""
    if target.is_dir():
        raise OutputError(f"cannot write {target}: a folder has that name; give the name of a file in it")
    if target.exists() and not target.is_file():
        raise OutputError(f"cannot write {target}: it is a device or a pipe; give the name of a regular file")


def _is_another_process(pid: int) -> bool:
    """Whether a process other than this one runs under an id; on Windows, where nobody can ask, always True."""
    if _ON_WINDOWS:
        return True  # os.kill would end the process there, whatever the signal
    if pid == os.getpid():
        return False  # a restarted container gives out the same ids again
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


# ------------------------------------------------------------------------------------------------- flush and rename


def _keep_permissions(target: Path, temporary: Path) -> None:
    """Give the temporary file the permissions of the file that it replaces; a new file gets those of the umask."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode) & 0o777)


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
        _remove(temporary)
        return
    aside = _temporary_name(target)
    os.rename(target, aside)
    try:
        os.rename(temporary, target)
    except BaseException:
        os.rename(aside, target)
        raise
    _remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step (`renameat2` of Linux); False if the system or the file system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here = -100  # AT_FDCWD
    return renameat2(here, os.fsencode(one), here, os.fsencode(other), _RENAME_EXCHANGE) == 0


# --------------------------------------------------------------------------------------------------------- failure


@contextlib.contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    _open_temporaries.add(str(temporary))
    try:
        yield
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _open_temporaries.discard(str(temporary))


def _remove(path: Path) -> None:
    """Remove a file or a folder, ignoring failures, which must not hide the error that led here."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the system into one line that names the path and the way out."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {os.fspath(path)}: {_reason(Path(path), error)}") from error


def _reason(path: Path, error: OSError) -> str:
    ways_out = {
        errno.ENOENT: f"the folder {path.parent} does not exist; create it first or choose another one",
        errno.ENOTDIR: f"{path.parent} is not a folder; choose another one",
        errno.ENOSPC: "the disk is full; free some space or choose another disk",
        errno.EDQUOT: "the disk quota is used up; free some space or choose another disk",
        errno.EACCES: f"no permission to write in {path.parent}; choose another folder",
        errno.EPERM: f"no permission to write in {path.parent}; choose another folder",
        errno.EROFS: "the disk is mounted read-only; choose another one",
        errno.ELOOP: "its symbolic links form a circle; remove the link",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }
    return ways_out.get(error.errno, f"{error.strerror or error}; choose another location")
