"""Make a folder for results."""

from pathlib import Path

from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError


def make_output_folder(path: str, flag: str = "--output_dir") -> Path:
    """Create the output folder, and check that it is writable before any long work begins.

    Args:
        flag: by which it was given, for the message.

    Raises:
        OutputError: it cannot be created or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{flag} {path} cannot be made ({error.strerror}); choose another folder") from None
    atomic.check_writable(folder)
    return folder
