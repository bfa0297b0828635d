"""What can go wrong in a user's hands, and how a command says so.

    TextualInversionError
    ├── SettingsError        a flag, or a combination of flags
    ├── ImageError           a picture or a folder of pictures
    ├── ConceptError         a placeholder or initializer word
    ├── BaseModelError       a base model that is missing, incomplete or of an unknown kind
    ├── EmbeddingFileError   an embedding file (its own branches are in `formats.py`)
    └── OutputError          something that could not be written

Each message is one line that names the thing and the way out.
"""

import os
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


class OutputError(TextualInversionError):
    """A file or folder that could not be written."""


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and leave the process with its status.

    A `TextualInversionError` becomes one line `error: …` on stderr and status 2; any other exception keeps its
    traceback, because it is a fault of the program and not of its user.
    """
    try:
        status = main() or 0
    except TextualInversionError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        status = 2
    except BrokenPipeError:
        # The reader of our output went away (`… | head`); stdout must not be flushed again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)
