"""Saves that may fail without taking the run with them.

    Saves.attempt(write, …)    any save: one that fails is said in a line, or kept to be said at the end
    save_rows(run, learned)    the last save of the rows: where the output folder cannot take them, elsewhere

Faults of the program itself are not forgiven: only what the system refuses.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual_inversion.system.errors import OutputError
from textual_inversion.training import outputs


class Saves:
    """Attempts to write into a run's output folder.

    Args:
        folder: the output folder; where it is gone it is made anew.
        say: told about a save that failed and will be tried again; None: nobody is.

    Attributes:
        failures: what went wrong, one `OutputError` a failed attempt.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] | None = None):
        self._folder, self._say = folder, say
        self.failures: list[OutputError] = []

    def attempt(self, write: Callable[..., Any], *arguments: Any, **options: Any) -> bool:
        """Call `write` with the arguments; False where the system refused what it wanted to write."""
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._tell(f"warning: the output folder {self._folder} was gone; it is made anew")
            write(*arguments, **options)
        except BrokenPipeError:
            raise  # of who reads our output, no file
        except (OutputError, OSError) as error:
            self.failures.append(as_output_error(error, self._folder))
            self._tell(f"warning: {self.failures[-1]}; training goes on, and the next save tries again")
            return False
        return True

    def _tell(self, line: str) -> None:
        if self._say is not None:
            self._say(line)


def save_rows(run, learned: list) -> OutputError | None:
    """Write the final embedding files; where the output folder cannot take them, in a new temporary folder.

    Args:
        run: the command's `Run`; `run.folder` is afterwards where the files are, so that what belongs to them follows.
        learned: the concepts, from `outputs.as_learned`.

    Returns:
        What kept them from the output folder; None where nothing did.

    Raises:
        OutputError: they could not be written anywhere.
    """
    saves = Saves(run.folder)
    if saves.attempt(outputs.save_final, run.folder, learned):
        return None
    failure = saves.failures[0]
    for place in _other_places():
        try:
            folder = Path(tempfile.mkdtemp(prefix="textual-inversion-", dir=place))
            outputs.save_final(folder, learned)
        except (OutputError, OSError):
            continue
        run.folder = folder
        return failure
    raise OutputError(f"{failure}; nor could the rows be kept in a temporary folder, they are lost")


def _other_places() -> list[Path]:
    """Where files may go that the output folder cannot take: the system's temporary folders, then the user's own."""
    places = [Path("/tmp"), Path("/var/tmp"), Path.home(), Path.cwd()]
    try:
        places.insert(0, Path(tempfile.gettempdir()))
    except FileNotFoundError:  # it can write into none of those that it knows
        pass
    return list(dict.fromkeys(places))


def as_output_error(error: Exception, folder: Path) -> OutputError:
    """The system's error as one that names the folder and the way out."""
    if isinstance(error, OutputError):
        return error
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"cannot write {getattr(error, 'filename', None) or folder}: {reason}; choose another folder")


def unsaved(failures: list[OutputError], kept: Path) -> OutputError:
    """What to end with when something of the last files could not be written, though the rows were.

    Args:
        kept: the file that the rows are in.
    """
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return OutputError(f"{failures[0]}{more}; the learned rows are in {kept}")
