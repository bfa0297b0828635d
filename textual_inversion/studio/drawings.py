"""The gallery: the images of each request, what they were made with, and the command that makes them again."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from textual_inversion.generation import fact_arguments, manifest
from textual_inversion.studio.workspace import Workspace
from textual_inversion.system import atomic, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json
from textual_inversion.system.errors import OutputError

_REQUEST = "request.json"
_SHEET = "contact_sheet.png"
_MOST = 500  # requests that are listed


class _Request(TypedDict):
    words: list[str]


@dataclass(frozen=True)
class DrawnImage:
    """An image of the gallery.

    Attributes:
        path: the PNG file.
        facts: what it was made with, as the manifest has it.
        command: the command line for this image alone.
    """

    path: Path
    facts: Mapping[str, Any]
    command: str

    @property
    def prompt(self) -> str:
        """What it shows."""
        return str(self.facts.get("prompt", ""))


@dataclass(frozen=True)
class Drawing:
    """The images of one request.

    Attributes:
        words: the arguments of `infer.py` that make them all; [] where nothing tells.
        images: those that are there, in their order.
    """

    folder: Path
    words: list[str] = field(default_factory=list)
    images: Sequence[DrawnImage] = ()

    @property
    def sheet(self) -> Path | None:
        """All of them side by side, where something was compared."""
        path = self.folder / _SHEET
        return path if "--compare" in " ".join(self.words) and path.is_file() else None


def begin(folder: Path, words: Sequence[str]) -> None:
    """Make the folder of a request, and note its command; raises OutputError."""
    atomic.make_folder(folder)
    atomic.write_json(folder / _REQUEST, {"words": list(words)})


def folders(workspace: Workspace) -> list[Path]:
    """The folders of all requests, the newest first; their names rise with the time."""
    names = sorted((path.name for path in workspace.part("drawings").iterdir() if path.is_dir()), reverse=True)
    return [workspace.part("drawings") / name for name in names[:_MOST]]


def read(folder: Path) -> Drawing:
    """A request and its images so far."""
    words: list[str] = []
    with contextlib.suppress(OSError, UnusableJson):
        words = checked(parse_json(user_files.read_bytes(folder / _REQUEST, 1 << 20)), _Request)["words"]
    images = []
    with contextlib.suppress(OutputError):
        for run in manifest.recorded_runs(folder):
            embeds = run.get("embeds", [])
            for entry in run.get("images", []):
                path = folder / manifest.file_of(entry)
                if path.is_file() and not path.is_symlink():
                    images.append(DrawnImage(path, entry, fact_arguments.command(entry, embeds)))
    return Drawing(folder, words, images)


def shown_facts(facts: Mapping[str, Any]) -> list[str]:
    """What an image was made with, in lines."""
    left_out = {"file", "key", "bytes", "prompt"}
    return [f"{name}: {value}" for name, value in facts.items() if name not in left_out and value not in ("", None)]
