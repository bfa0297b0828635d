"""Checks of where a command writes, before any slow work."""

import os
from pathlib import Path

from textual_inversion.system.errors import SettingsError


def check_parents(folder: Path, flag: str) -> None:
    """Refuse a folder that cannot be made because one of its parents is a file."""
    found = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    if os.path.lexists(found) and not found.is_dir():
        raise SettingsError(f"{flag} cannot be made: {found} is not a folder; choose another")
