"""What the system refuses when something is written, as one line that names the path and the way out."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from textual_inversion.system.errors import OutputError


@contextlib.contextmanager
def explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error of the system into an OutputError."""
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
        errno.EFBIG: "no file may become so large here (ulimit -f); raise that limit or choose another disk",
        errno.EACCES: f"no permission to write in {path.parent}; choose another folder",
        errno.EPERM: f"no permission to write in {path.parent}; choose another folder",
        errno.EROFS: "the disk is mounted read-only; choose another one",
        errno.ELOOP: "its symbolic links form a circle; remove the link",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }
    return ways_out.get(error.errno, f"{error.strerror or error}; choose another location")
