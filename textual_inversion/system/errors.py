"""Errors that a user can fix, and how a command reports them.

    TextualInversionError
    ├── SettingsError        a flag, or a combination of flags
    ├── ImageError           an image or a folder of images
    ├── ConceptError         a placeholder or initializer token
    ├── BaseModelError       a base model that is missing, incomplete or of an unknown kind
    ├── EmbeddingFileError   an embedding file (its subclasses are in `formats/errors.py`)
    ├── CheckpointError      a checkpoint that a run cannot resume from
    ├── OutputError          something that could not be written
    ├── StorageError         an address of object storage
    └── DivergenceError      training whose loss or gradient is no longer finite
    Stopped                  not an error: a signal ended the run in an orderly way

Each message is one line that names the thing and the way out.
"""

import errno
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from textual_inversion.system import streams
from textual_inversion.system.terminal_text import one_line

LONGEST_LINE = 1000  # letters of an error; a text from a file, or of a library, may have millions


class TextualInversionError(Exception):
    """A problem that the user can fix; the message is one line."""


class SettingsError(TextualInversionError):
    """A flag whose value is wrong, or flags that cannot be combined."""


class ImageError(TextualInversionError):
    """An image, or a folder of images, that cannot be used."""


class ConceptError(TextualInversionError):
    """A placeholder or initializer token that cannot be used with this base model."""


class BaseModelError(TextualInversionError):
    """A base model that is missing, incomplete or of a kind that cannot be trained."""


class EmbeddingFileError(TextualInversionError):
    """An embedding file that cannot be used."""


class CheckpointError(TextualInversionError):
    """A checkpoint that is missing, damaged, or of another run."""


class OutputError(TextualInversionError):
    """A file or folder that could not be written."""


class StorageError(TextualInversionError):
    """An address of object storage that cannot be used, or what is missing there.

    Attributes:
        is_lasting: trying again changes nothing: no such bucket, or credentials that are refused.
    """

    def __init__(self, message: str, *, is_lasting: bool = True):
        super().__init__(message)
        self.is_lasting = is_lasting


class DivergenceError(TextualInversionError):
    """Training whose loss or gradient is not finite, step after step."""


class Stopped(BaseException):
    """A signal asked the run to end. Like KeyboardInterrupt it is no Exception, so `except Exception` doesn't catch it.

    Attributes:
        status: the exit status, 128 + the signal's number, as in a shell.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.status = 128 + number


_NO_MEMORY = (
    "there is not enough memory for this; lower --train_batch_size or --batch_size, --resolution or --height and "
    "--width, or add --gradient_checkpointing"
)


# A launcher repeats SIGTERM, and a closed terminal or a shut-down may send both.
_REPEATED = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _shortened(line: str) -> str:
    """A line of at most LONGEST_LINE letters: its beginning, which names the thing, and its end, the way out."""
    half = LONGEST_LINE // 2
    return line if len(line) <= LONGEST_LINE else f"{line[: half - 1]}…{line[-half:]}"


# What the system lacks, as no code can foresee it everywhere, and the way out.
_LACKING = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some space or choose another disk",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "choose another disk",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EAGAIN: "raise the limit on processes (ulimit -u) or close other programs",
    errno.ENOMEM: "close other programs, or raise the limit on memory (ulimit -v)",
}


def _with_limits_named(main: Callable[[], int | None]) -> int | None:
    """Call `main`; what the system lacks becomes an `OutputError`."""
    try:
        return main()
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise OutputError(f"{where}{error.strerror or error}; {_LACKING[error.errno]}") from error


_endings: list[Callable[[], None]] = []


def at_end(ending: Callable[[], None]) -> None:
    """Have a function called when the command ends, however it ends, with what was printed; it may raise its errors."""
    _endings.append(ending)


def _after_endings(status: int) -> int:
    """The exit status, after everything that is to be done when a command ends."""
    while _endings:
        try:
            _endings.pop()()
        except TextualInversionError as error:
            streams.print_error(f"error: {_shortened(one_line(error))}")
            status = status or 2
    return status


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main`, and end the process with its exit status.

    Every command enters here. Whatever its standard streams are, nothing that it prints raises an error (`streams`).
    A `TextualInversionError` becomes one line `error: …` on stderr and status 2, and so does a lack of memory, of disk
    space or of open files. `Stopped` becomes its message and its status. Any other exception is a bug, so it keeps its
    traceback.
    """
    streams.prepare()
    try:
        status = _with_limits_named(main) or 0
    except TextualInversionError as error:
        streams.print_error(f"error: {_shortened(one_line(error))}")
        status = 2
    except MemoryError:
        streams.print_error(f"error: {_NO_MEMORY}")
        status = 2
    except Stopped as stop:
        for number in _REPEATED:
            signal.signal(number, signal.SIG_IGN)
        if str(stop):
            streams.print_error(str(stop))
        status = stop.status
    sys.exit(_after_endings(status))
