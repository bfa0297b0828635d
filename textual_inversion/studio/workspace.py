"""Where the page keeps its files, and which other folders it may look into.

    WORKSPACE/runs/NAME          the output folder of a training run
    WORKSPACE/images/NAME        training images that were dropped into the page
    WORKSPACE/words              embedding files that were dropped, converted or mixed
    WORKSPACE/drawings/NAME      the images of one request
    WORKSPACE/bin/NAME           what was deleted
    WORKSPACE/jobs/KEY           the record and the log of the process that works on a run

A path that somebody types is resolved, links included, and must then lie in the workspace, in one of the chosen roots,
or in what comes with the program. What somebody calls a thing never becomes a path as it stands.
"""

import hashlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from textual_inversion.embeddings.file_names import safe_name
from textual_inversion.formats.errors import printable
from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.paths import ROOT, has_demo, is_possible_path, leads_in_circles

_LONGEST_NAME = 60  # letters of a name that becomes a folder's
_PARTS = ("runs", "images", "words", "drawings", "bin", "jobs")
_MOST_FOLDERS, _DEEPEST = 4000, 3  # that are looked into


class OutsideError(SettingsError):
    """A path that lies in none of the folders that the page may look into."""


@dataclass(frozen=True)
class Workspace:
    """The folder of the page, and the others that it may read.

    Attributes:
        folder: absolute, without links.
        roots: likewise.
    """

    folder: Path
    roots: tuple[Path, ...] = ()

    @classmethod
    def at(cls, folder: str | Path, roots: Iterable[str | Path] = ()) -> "Workspace":
        """The workspace in a folder, which is made.

        Raises:
            OutputError: it cannot be made.
            SettingsError: a root is no folder.
        """
        made = atomic.make_folder(Path(folder).expanduser()).resolve()
        for name in _PARTS:
            atomic.make_folder(made / name)
        for root in roots:
            if not Path(root).expanduser().is_dir():
                raise SettingsError(f"--roots {root} is no folder; give folders that are there")
        return cls(made, tuple(Path(root).expanduser().resolve() for root in roots))

    def part(self, name: str) -> Path:
        """One of the folders in the workspace: runs, images, words, drawings, bin, jobs."""
        return self.folder / _PARTS[_PARTS.index(name)]

    @property
    def readable(self) -> tuple[Path, ...]:
        """The folders that a path may lie in."""
        own = (ROOT / "demo", ROOT / "cat_toy_images") if has_demo() else ()
        return tuple(dict.fromkeys((self.folder, *self.roots, *own)))

    def inside(self, text: str | Path) -> Path:
        """The place that a path means, without links; a relative one counts from the working directory.

        Raises:
            OutsideError: it lies in none of the folders that the page may look into, or cannot be a path.
        """
        shown = printable(str(text), 100)
        if not str(text) or not is_possible_path(str(text)) or leads_in_circles(str(text)):
            raise OutsideError(f"{shown or 'an empty path'} is no path; give one that is there")
        place = Path(os.path.expanduser(str(text))).resolve()
        if not any(place == root or root in place.parents for root in self.readable):
            raise OutsideError(
                f"{shown} lies outside of the folders that this page may use; start it with --roots and that folder"
            )
        return place

    def folders(self, *tops: Path) -> Iterator[Path]:
        """The folders at most a few levels below some others, these included; links and hidden ones are left out."""
        level, seen = list(dict.fromkeys(tops)), 0
        for _ in range(_DEEPEST + 1):
            below = []
            for folder in level:
                seen += 1
                if seen > _MOST_FOLDERS:
                    return
                yield folder
                below += _subfolders(folder)
            level = below

    def new_folder(self, part: str, wanted: str) -> Path:
        """A folder that is not there yet, for something that somebody calls `wanted`; it is not made."""
        parent, name = self.part(part), folder_name(wanted)
        taken = {path.name.lower() for path in parent.iterdir()}
        names = (name if number == 1 else f"{name}-{number}" for number in range(1, 10_000))
        free = next((one for one in names if one.lower() not in taken), None)
        return parent / (free or f"{name}-{secrets.token_hex(4)}")

    def new_drawing(self) -> Path:
        """A folder for the images of one request; names rise with the time."""
        return self.part("drawings") / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"

    def job_folder(self, run: Path) -> Path:
        """Where the record and the log of a run's process are."""
        key = hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:24]
        return self.part("jobs") / key

    def throw_away(self, path: Path) -> Path:
        """Move a folder or a file of the workspace into its bin, in one step; returns where it is now.

        Raises:
            OutputError: it is not of the workspace, or cannot be moved.
        """
        place = path.resolve()
        parents = [self.part(name) for name in ("runs", "images", "words", "drawings")]
        if place != path.absolute() or not any(parent in place.parents for parent in parents):
            raise OutputError(f"{printable(str(path), 100)} is not in {self.folder}; remove it yourself")
        target = self.part("bin") / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}-{place.name}"
        atomic.move(place, target)
        return target


def folder_name(wanted: str) -> str:
    """A name that is safe in every file system, for what somebody calls `wanted`."""
    name = safe_name(wanted.replace("..", "-")).lstrip("._-")[:_LONGEST_NAME].rstrip("._-")
    return name or "unnamed"


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))
    except OSError:
        return []
    return [folder / name for name in names if not name.startswith((".", "checkpoint-", "__"))]
