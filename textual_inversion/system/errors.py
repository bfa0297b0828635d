"""What can go wrong in a user's hands, and how a command says so.

    TextualInversionError
    ├── SettingsError        a flag, or a combination of flags
    ├── ImageError           a picture or a folder of pictures
    ├── ConceptError         a placeholder or initializer word
    ├── BaseModelError       a base model that is missing, incomplete or of an unknown kind
    ├── EmbeddingFileError   an embedding file (its own branches are in `formats.py`)
    ├── CheckpointError      a checkpoint that a run cannot go on from
    ├── OutputError          something that could not be written
    └── DivergenceError      training that no longer gives finite numbers
    Stopped                  no error: a signal ended the run in good order

Each message is one line that names the thing and the way out.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


class TextualInversionError(Exception):
    """A problem that the user can solve; the message is one line."""


class SettingsError(TextualInversionError):
    """A flag's value, or flags that do not go together."""


class ImageError(TextualInversionError):
    """A picture, or a folder of pictures, that cannot be used."""


class ConceptError(TextualInversionError):
    """A placeholder or initializer word that cannot be used with this base model."""


class BaseModelError(TextualInversionError):
    """A base model that is missing, incomplete or of a kind that cannot be trained."""


class EmbeddingFileError(TextualInversionError):
    """An embedding file that cannot be used."""


class CheckpointError(TextualInversionError):
    """A checkpoint that is missing, damaged, or of another run."""


class OutputError(TextualInversionError):
    """A file or folder that could not be written."""


class DivergenceError(TextualInversionError):
    """Training whose loss or gradient is no finite number, step after step."""


class Stopped(BaseException):
    """A signal asked the run to end. Like KeyboardInterrupt it is no Exception, so that nobody swallows it.

    Attributes:
        status: what the process leaves with, 128 + the signal's number, as a shell would say it.
    """

    def __init__(self, number: int, message: str = ""):
        super().__init__(message)
        self.status = 128 + number


_NO_MEMORY = (
    "there is not enough memory for this; lower --train_batch_size or --batch_size, --resolution or --height and "
    "--width, or add --gradient_checkpointing"
)


def one_line(error: object) -> str:
    """A message on one line, without what would steer a terminal: names of files and words may hold anything."""
    line = " ".join(str(error).split())
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line)


def _print_any_letter() -> None:
    """Let no line of output fail on a letter that the terminal's encoding lacks: folders may have Chinese names."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be a file on a full disk
        print(line, file=sys.stderr)


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and leave the process with its status.

    A `TextualInversionError` becomes one line `error: …` on stderr and status 2, and so does a lack of memory;
    `Stopped` becomes its line and its status. Any other exception keeps its traceback, because it is a fault of the
    program and not of its user.
    """
    _print_any_letter()
    try:
        status = main() or 0
    except TextualInversionError as error:
        _tell(f"error: {one_line(error)}")
        status = 2
    except MemoryError:
        _tell(f"error: {_NO_MEMORY}")
        status = 2
    except Stopped as stop:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher repeats it
        if str(stop):
            _tell(str(stop))
        status = stop.status
    except BrokenPipeError:
        # The reader of our output went away (`… | head`); stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    _let_go_of_unwritable_output()
    sys.exit(status)


def _let_go_of_unwritable_output() -> None:
    """Drop what a full disk did not take of our output; else flushing it at exit would change the status to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
