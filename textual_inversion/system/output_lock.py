"""One run at a time in an output folder: a lock that the system takes back when its process ends, however it ends."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError

FILE_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, in a file that says which process on which machine does.

    What killed processes left in the folder under temporary names is removed. Where the system or the file system
    knows no locks, nothing is held.

    Raises:
        OutputError: another run that is alive writes into the folder.
    """
    folder = Path(folder)
    descriptor = _acquire(folder / FILE_NAME)
    try:
        for place in (folder, *(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())):
            atomic.remove_leftovers(place)
        yield
    finally:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                (folder / FILE_NAME).unlink()  # before the lock goes: nobody else's file is removed
            os.close(descriptor)


def _acquire(path: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    access = os.O_RDONLY  # so that the disk can still be made read-only
    while True:
        descriptor = os.open(path, access | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "one that is just starting"
            os.close(descriptor)
            raise OutputError(
                f"another run ({holder}) is writing into {path.parent}; wait for its end or choose another --output_dir"
            ) from None
        except OSError as error:  # of network file systems, where some lock only what is open for writing
            os.close(descriptor)
            if error.errno != errno.EBADF or access == os.O_RDWR:
                return None
            access = os.O_RDWR
            continue
        if _is_the_file(descriptor, path):
            path.write_text(f"process {os.getpid()} on {platform.node()}\n")
            return descriptor
        os.close(descriptor)  # its holder removed it between our two calls


def _is_the_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
