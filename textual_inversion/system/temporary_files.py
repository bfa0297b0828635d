"""The temporary files and folders of `atomic`: their names, whose they are, and how those of killed processes go.

One is hidden in the folder of its target, as `.NAME.tmp-PID-TOKEN-RANDOM`; the token tells the processes of different
machines apart.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

TOKEN = secrets.token_hex(8)  # of this process, in the names of its temporary files
_TEMPORARY_NAME = re.compile(r"^\..+\.tmp-(\d+)-([0-9a-f]{16})-[0-9a-f]{8}$", re.DOTALL)
_LONGEST_KEPT_NAME = 160  # bytes of the target's name that the temporary name repeats; file systems end at 255
_ON_WINDOWS = os.name == "nt"
_open_temporaries: set[str] = set()


def temporary_name(target: Path) -> Path:
    """A name that is free for what is to replace `target`, in the same folder."""
    kept = os.fsencode(target.name)[:_LONGEST_KEPT_NAME].decode("utf-8", "ignore")
    return target.with_name(f".{kept}.tmp-{os.getpid()}-{TOKEN}-{secrets.token_hex(4)}")


def is_temporary(name: str) -> bool:
    """Whether the name of a file or folder is one of unfinished writing."""
    return _TEMPORARY_NAME.match(name) is not None


def remove_leftovers(folder: str | os.PathLike[str], token: str | None, target: str | None = None) -> list[Path]:
    """Remove the temporary files of killed processes in `folder` (not below it); returns what was removed.

    Files whose name contains the id of another running process are kept.

    Args:
        token: of the process, as its record names it; files of any other process stay, with None all.
        target: name of a file whose temporary ones go whichever process left them.
    """
    removed = []
    for entry in sorted(Path(folder).iterdir()) if os.path.isdir(folder) else []:
        match = _TEMPORARY_NAME.match(entry.name)
        is_known = match is not None and (match[2] == token or entry.name.startswith(f".{target}.tmp-"))
        if is_known and str(entry) not in _open_temporaries and not _is_another_process(int(match[1])):
            remove_quietly(entry)
            removed.append(entry)
    return removed


@contextlib.contextmanager
def removed_on_failure(temporary: Path) -> Iterator[None]:
    """A context in which a temporary file or folder is in use; whatever is raised there removes it."""
    _open_temporaries.add(str(temporary))
    try:
        yield
    except BaseException:
        remove_quietly(temporary)
        raise
    finally:
        _open_temporaries.discard(str(temporary))


def remove_quietly(path: Path) -> None:
    """Remove a file or a folder, ignoring failures, which must not hide the error that led here."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


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
