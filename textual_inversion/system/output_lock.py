"""One run at a time writes into an output folder: a lock that the system releases however its process ends."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from filelock import lock_descriptor

from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import open_lock, write_lock
from textual_inversion.system.write_errors import explained

FILE_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock: a file that names the process and the machine that hold it.

    Where the system or the file system has no locks, nothing is held.

    Raises:
        OutputError: another running process writes into the folder, or what has the lock's name is no file of this
            user alone, or the file cannot be written.
    """
    with _held(Path(folder) / FILE_NAME):
        yield


@contextlib.contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """Hold a lock file inside the block, after waiting for whoever holds it: for changes that take a moment.

    Where the system or the file system has no locks, nothing is held.

    Raises:
        OutputError: the lock file cannot be written, or is no file of this user alone.
    """
    with _held(path, wait=True):
        yield


@contextlib.contextmanager
def _held(path: Path, *, wait: bool = False) -> Iterator[None]:
    descriptor = _acquire(path, wait=wait)
    try:
        yield
    finally:
        _release(path, descriptor)


def _release(path: Path, descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(OSError):
            if _is_the_file(descriptor, path):
                path.unlink()  # while it is still locked, so that no other run's file is removed
        os.close(descriptor)


def _acquire(path: Path, *, wait: bool = False) -> int | None:
    """Open and lock a file; returns its descriptor, or None where files cannot be locked.

    `filelock.FileLock` would keep the file open for writing for as long as it is held, and a disk on which a file is
    open for writing cannot be remounted read-only. So the file is opened here, for reading only.
    """
    if os.name == "nt":  # where nobody can read a locked file, so no message could name its holder
        return None
    access = os.O_RDONLY
    while True:
        descriptor = open_lock(path, access)
        try:
            is_ours = lock_descriptor(descriptor, blocking=wait)
        except OSError as error:
            os.close(descriptor)
            # Some network file systems lock only what is open for writing; others, and some systems, lock nothing.
            if error.errno != errno.EBADF or access == os.O_RDWR:
                return None
            access = os.O_RDWR
            continue
        if not is_ours:
            _refuse(path, descriptor)
        if _is_the_file(descriptor, path):
            _sign(path, descriptor)
            return descriptor
        os.close(descriptor)  # its holder removed it between our two calls


def _sign(path: Path, descriptor: int) -> None:
    """Write who holds a lock into its file; if that fails, it is given back."""
    try:
        with explained(path):
            write_lock(path, descriptor, f"process {os.getpid()} on {platform.node()}\n")
    except OutputError:
        _release(path, descriptor)
        raise


def _refuse(path: Path, descriptor: int) -> NoReturn:
    holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "one that is just starting"
    os.close(descriptor)
    raise OutputError(
        f"another run ({holder}) is writing into {path.parent}; wait until it ends or choose another --output_dir"
    )


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
