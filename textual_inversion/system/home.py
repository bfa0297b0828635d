"""The home folder: whether there is one, and what stands in for it where libraries cannot make their folders in it.

Some libraries make folders in the home folder when they are imported, and fail where that is not possible: in a
container that runs as another user, on a cluster with a read-only home, for a user without an entry in the password
file. What they would keep there is of no use to this project, so an empty temporary folder does as well.

The real home folder stays in `HOME` for everything else: its caches of downloaded models can be read all the same.
"""

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from textual_inversion.system.errors import OutputError

# Folders that libraries make below the home folder, when they are imported or used.
OF_PADDLE = (".cache/paddle/dataset",)
OF_PADDLENLP = (".paddlenlp/models/embeddings", ".paddlenlp/datasets", ".paddlenlp/packages")
OF_COMPILER = (".cache/paddle/to_static_tmp",)
OF_VISUALDL = (".visualdl/conf", ".visualdl/fastdeployserver", ".visualdl/x2paddle")
_STAND_IN = "textual-inversion-home-"


def home_folder() -> Path | None:
    """The user's home folder, which may not exist; None where the system knows none, or only a relative path."""
    path = os.path.expanduser("~")
    return Path(path) if os.path.isabs(path) and not os.path.basename(path).startswith(_STAND_IN) else None


def prepare() -> None:
    """Give a process without any home folder one for its lifetime, and one without temporary folders one of its own.

    Otherwise libraries make a folder named `~` in the working folder.

    Raises:
        OutputError: neither a home folder nor a temporary one can be written.
    """
    home = home_folder()
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        if home is None or not _is_writable(home) or not can_make(home / ".cache"):
            raise OutputError(_nowhere()) from None
        tempfile.tempdir = str(home / ".cache")
    if home is None:
        os.environ["HOME"] = _stand_in()


@contextlib.contextmanager
def taking(*folders: str) -> Iterator[bool]:
    """For an import inside the block, `HOME` is a folder in which these folders exist.

    Args:
        folders: such as `OF_PADDLE`.

    Yields:
        Whether the home folder takes them itself.

    Raises:
        OutputError: neither the home folder nor a temporary folder takes them.
    """
    home = home_folder()
    if home is not None and _is_writable(home) and all(can_make(home / folder) for folder in folders):
        yield True
        return
    before = os.environ.get("HOME")
    os.environ["HOME"] = _stand_in()
    try:
        yield False
    finally:
        if before is not None:
            os.environ["HOME"] = before
        elif home is not None:  # it is that of the password file
            del os.environ["HOME"]


def _is_writable(folder: Path) -> bool:
    """As paddle sees it, which otherwise makes its folders among the temporary ones, where another user's may be."""
    return os.access(folder, os.W_OK) or not folder.exists()


def can_make(folder: Path) -> bool:
    """Make a folder as a library would; a folder that is there already is enough."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


@functools.cache
def _stand_in() -> str:
    try:
        folder = tempfile.mkdtemp(prefix=_STAND_IN)
    except OSError as error:
        raise OutputError(_nowhere()) from error
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _nowhere() -> str:
    home = home_folder()
    first = "there is no home folder" if home is None else f"nothing can be written in the home folder {home}"
    return f"{first}, nor in any folder for temporary files; set HOME or TMPDIR to a folder that can be written"
