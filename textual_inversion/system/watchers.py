"""Who is told of everything that is written and removed below a folder (see `atomic`, through which all of it goes)."""

import contextlib
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Protocol


class Watcher(Protocol):
    """Is told what happens below a folder.

    Attributes:
        folder: absolute.
    """

    folder: Path

    def will_begin(self, target: Path) -> None:
        """Called before the temporary file or folder of a target is made; may raise OutputError."""

    def will_write(self, files: Mapping[Path, Path]) -> None:
        """Called before files get their names: target -> where it lies, complete and flushed; may raise OutputError."""

    def written(self, target: Path) -> None:
        """Called after a file, or a folder of files, got its name."""

    def may_replace(self, folder: Path, names: Container[str]) -> None:
        """Called before a folder is replaced by one with files of these names; raises OutputError where it may not."""

    def may_remove(self, path: Path) -> None:
        """Called before a file or a folder is removed; raises OutputError where it may not."""

    def removed(self, path: Path) -> None:
        """Called after a file or a folder was removed."""


_watchers: list[Watcher] = []


@contextlib.contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell a watcher of everything that is written and removed below its folder, inside the block."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def watchers_of(path: Path) -> list[Watcher]:
    """Those whose folder an absolute path lies below."""
    return [watcher for watcher in _watchers if watcher.folder in path.parents]
