"""Folders in which strangers may have left links: nothing is read, written or removed through one.

    refuse_links_below(root, path)    before something is written: no folder between root and path is a link
    open_below(root, name)            a regular file of a folder, for reading; no part of its name is a link
    beginning_of(path, size)          what such a file begins with, to see whose it is
    open_lock(path)                   a file that only this program's user may have made, to be locked
    open_log(path)                    a file to which a child's output is added

What a user names, such as the output folder, may be a link or lie behind one. What lies below it may not: an unpacked
archive or a shared folder can hold links that lead anywhere. Each is checked where it is used; someone who can change
the folder while a run writes into it is not kept out.
"""

import errno
import os
import stat
from pathlib import Path

from textual_inversion.system.errors import OutputError

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # opening a pipe would wait for its other end
_FOLDER = getattr(os, "O_DIRECTORY", 0)


def refuse_links_below(root: Path, path: Path) -> None:
    """Refuse a path some folder of which, below `root`, is a symbolic link. Its last part may be one.

    Args:
        root: absolute; it and what is above it may be links.
        path: absolute, inside `root`.

    Raises:
        OutputError: a link would be followed.
    """
    folder = root
    for part in path.relative_to(root).parts[:-1]:
        folder = folder / part
        if folder.is_symlink():
            raise OutputError(
                f"cannot write {path}: {folder} is a symbolic link, and nothing is written through one; remove it or "
                "choose another folder"
            )


def open_below(root: Path, name: str, access: int = os.O_RDONLY) -> int:
    """Open a regular file of a folder, and return its descriptor.

    Args:
        name: of the file below `root`, with slashes; "..", an absolute path or an empty part is refused.
        access: `os.O_RDONLY`, or `os.O_RDWR` where a file system locks only what is open for writing.

    Raises:
        OSError: it is not there, cannot be read, is no regular file, or a part of its name is a link.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") or os.sep in part for part in parts):
        raise OSError(errno.EINVAL, "it leads out of its folder", name)
    descriptor = _opened(Path(root), parts, access)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", name)
    return descriptor


def _opened(root: Path, parts: list[str], access: int) -> int:
    if os.open not in os.supports_dir_fd:  # Windows, where links need rights of their own
        path = root
        for part in parts:
            path = path / part
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        return os.open(path, access | getattr(os, "O_BINARY", 0))
    folder = os.open(root, os.O_RDONLY | _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | _FOLDER | _NO_FOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], access | _NO_FOLLOW | _NO_WAIT, dir_fd=folder)
    finally:
        os.close(folder)


def beginning_of(path: Path, size: int) -> bytes | None:
    """The first bytes of a file that may be somebody else's; None where there is none.

    Raises:
        OSError: it cannot be read, or is a link or no regular file.
    """
    try:
        with open(open_below(path.parent, path.name), "rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return None


def open_lock(path: Path, access: int) -> int:
    """Open a file that is to be locked, which is made where it is missing, and return its descriptor.

    Args:
        access: `os.O_RDONLY` or `os.O_RDWR`.

    Raises:
        OutputError: what lies there is a link, a folder, a pipe or a device, has another name elsewhere, or is of
            another user; or it cannot be made.
    """
    way_out = "remove it or choose another --output_dir"
    try:
        descriptor = os.open(path, access | os.O_CREAT | _NO_FOLLOW | _NO_WAIT | getattr(os, "O_CLOEXEC", 0), 0o666)
    except OSError as error:
        if path.is_symlink():
            raise OutputError(f"{path} is a symbolic link, which no lock may be; {way_out}") from error
        if path.is_dir() or error.errno == errno.ENXIO:  # a socket, or a device without a driver
            raise OutputError(f"{path} is no regular file, which a lock must be; {way_out}") from error
        reason = f"{error.strerror or error}; choose another --output_dir"
        raise OutputError(f"the lock {path} cannot be opened ({reason})") from error
    reason = _no_lock(os.fstat(descriptor))
    if reason:
        os.close(descriptor)
        raise OutputError(f"{path} {reason}; {way_out}")
    return descriptor


def open_log(path: Path) -> int:
    """Open a regular file for adding to it, which is made where it is missing, and return its descriptor.

    Raises:
        OutputError: what lies there is a link or no regular file, has another name elsewhere, or is of another user; or
            it cannot be made.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_FOLLOW | _NO_WAIT, 0o666)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; remove it or choose another folder") from error
    reason = _no_lock(os.fstat(descriptor))
    if reason:
        os.close(descriptor)
        raise OutputError(f"cannot write {path}: it {reason.partition(',')[0]}; remove it or choose another folder")
    return descriptor


def write_lock(path: Path, descriptor: int, text: str) -> None:
    """Replace the content of the file that `open_lock` has opened; raises OSError.

    It is opened anew for writing, and only while it is written: a disk on which a file is open for writing cannot be
    remounted read-only.
    """
    writable = os.open(path, os.O_WRONLY | _NO_FOLLOW | _NO_WAIT)
    try:
        if os.path.samestat(os.fstat(writable), os.fstat(descriptor)):
            os.ftruncate(writable, 0)
            rest = text.encode("utf-8", "replace")
            while rest:
                rest = rest[os.write(writable, rest) :]
    finally:
        os.close(writable)


def _no_lock(status: os.stat_result) -> str:
    """Why a file cannot be a lock of this program; "" for one that can."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file, which a lock must be"
    if status.st_nlink > 1:
        return "has another name elsewhere, which a lock may not have"
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return "belongs to another user"
    return ""
