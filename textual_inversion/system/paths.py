"""Where things are: the repository, the demo's model, and how a record names a place."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO_MODEL = ROOT / "demo" / "model"


def is_demo(name_or_path: str) -> bool:
    """Whether a base model is the one that this project ships."""
    path = Path(name_or_path)
    return path.is_dir() and path.resolve() == DEMO_MODEL.resolve()


def from_root(path: str) -> str:
    """A default path of the repository, wherever the command is called from."""
    return str(ROOT / path)


def is_possible_path(text: str) -> bool:
    """Whether a file system could hold this name at all: no part of it too long, no NUL."""
    parts = [os.fsencode(part) for part in text.replace(os.sep, "/").split("/")]
    return "\0" not in text and max(map(len, parts)) <= 255 and sum(len(part) + 1 for part in parts) < 4096


def portable(path: str) -> str:
    """A path as a record should hold it.

    Inside this repository it is relative to it, so that the record is true in another clone; elsewhere absolute, so
    that it is true in another working directory. What is no path here, such as a hub's name, stays.
    """
    if not Path(path).exists():
        return path
    whole = Path(path).resolve()
    return whole.relative_to(ROOT).as_posix() if whole.is_relative_to(ROOT) else str(whole)


def is_single_file(path: Path) -> bool:
    """Whether a path is a file that `unpack` may be asked for."""
    return path.suffix == ".safetensors" and path.is_file()
