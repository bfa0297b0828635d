"""A journal: a file to which one process adds a record at a time, so that nothing is lost however the process ends.

Each record is a line of JSON. Adding one costs the same however many there are, and it is on the disk before `add`
returns. As long as its writer lives, the system holds a lock on the file: a journal without one was left behind by a
process that was killed.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from textual_inversion.system.checked_json import UnusableJson, parse_json
from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import beginning_of, open_below

_MODE = 0o666  # less the umask, like any file
MOST_BYTES = 64 << 20  # that are read of a journal, unless its reader knows better


class Journal:
    """A journal that this process writes.

    Args:
        path: of a file that does not exist yet.

    Raises:
        OutputError: it cannot be created.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, _MODE)
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
        _try_lock(self._descriptor)

    def add(self, record: dict[str, Any]) -> None:
        """Add a record, in full or not at all.

        Raises:
            OutputError: the system refuses it.
        """
        line = f"{json.dumps(record)}\n".encode()
        size = os.fstat(self._descriptor).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise OutputError(f"cannot write {self.path}: {error.strerror}; choose another folder") from error

    def remove(self) -> None:
        """Remove the file: what it holds is kept elsewhere by now. May be called twice."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


def read(path: Path, most: int = MOST_BYTES) -> list[dict[str, Any]]:
    """The records of a journal, of this process or another; a line that is not whole or no record is passed over.

    Args:
        most: bytes that are read.
    """
    records = []
    try:
        lines = (beginning_of(path, most) or b"").splitlines(keepends=True)
    except OSError:
        return []
    for line in lines:
        try:
            record = parse_json(line, allows_odd_names=True) if line.endswith(b"\n") else None
        except UnusableJson:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def is_abandoned(path: Path) -> bool:
    """Whether the writer of a journal was killed, so that nothing is added any more; False if nobody can tell."""
    try:
        descriptor = open_below(path.parent, path.name, os.O_RDWR)
    except OSError:
        return False
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    """Lock a file without waiting. False where another process has, or where the system or file system has no locks."""
    if os.name == "nt":  # where nobody could read the file meanwhile
        return False
    try:
        return bool(lock_descriptor(descriptor, blocking=False))
    except OSError:
        return False
