"""A folder of generated images: numbered files that record how they were made, and a manifest of all runs.

Images of another run are never overwritten: the numbers continue. `contact_sheet.png` shows the run that finished
last, and every run adds an entry to `manifest.json`. Any number of processes may write into a folder at once: each
reserves its numbers in the manifest, and reads and replaces the manifest while it holds a lock.

Before an image appears it is in the record, whatever then ends the process. To rewrite the manifest for each image
would cost the square of their number. So a run adds each image to a journal of its own (`manifest-ID.jsonl`), and
brings the manifest up to date as often as that takes a small share of its time. At its end the journal goes. That of
a run that was killed stays until the next run takes it over; `recorded_runs` reads both.
"""

import contextlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import TypedDict

from textual_inversion.generation import image_grid, infotext
from textual_inversion.system import atomic, journal, output_lock, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json, whole_number
from textual_inversion.system.errors import OutputError

SHEET, MANIFEST = "contact_sheet.png", "manifest.json"
_LOCK = ".manifest.lock"
_JOURNAL = "manifest-{}.jsonl"
_UPDATE_SHARE = 50  # the manifest is updated after this many times what the last update took: 2 % of the time
# Settings that may have several values in one run, with their names in a label.
SCANNED = {"guidance_scale": "guidance", "num_inference_steps": "steps"}
_MOST_IMAGES = 10**9
_NUMBERED = re.compile(r"(\d{4,9})-seed\d+\.png")


class _Run(TypedDict, total=False):
    """The entries of a run that later runs look at."""

    id: str
    images: list[dict[str, Any]]
    last_reserved: whole_number(-1, _MOST_IMAGES)


class _Manifest(TypedDict):
    runs: list[_Run]


class Gallery:
    """The images of one run.

    Args:
        folder: exists and can be written.
        settings: what all images of the run have in common; they are written to the manifest beside `images`.
        clock: monotonic, in seconds.

    Raises:
        OutputError: the folder has a manifest.json that this program did not write.
    """

    def __init__(self, folder: str | Path, settings: dict[str, Any], clock: Callable[[], float] = time.monotonic):
        self.folder = Path(folder)
        _runs_in(self.folder / MANIFEST)
        self._embeds = settings.get("embeds", [])
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._run = {"id": secrets.token_hex(8), "created": created, **settings, "images": []}
        self._first, self._last_reserved = 0, {}
        self._journal: journal.Journal | None = None
        self._clock, self._next_update = clock, 0.0

    @property
    def run(self) -> dict[str, Any]:
        """The run as it stands in the manifest, with the images that were saved so far."""
        return self._run

    def reserve(self, count: int) -> None:
        """Reserve the numbers of `count` images for this run, before the first is saved.

        Raises:
            OutputError: the manifest cannot be read or written.
        """
        with self._manifest() as runs:
            numbers = [int(found[1]) for path in self.folder.iterdir() if (found := _NUMBERED.fullmatch(path.name))]
            self._first = max([*numbers, *map(_last_reserved, runs)], default=-1) + 1
            self._last_reserved = {"last_reserved": self._first + count - 1}
            self._journal = journal.Journal(self.folder / _JOURNAL.format(self._run["id"]))
            self._journal.add({**self._run, **self._last_reserved})
            runs.append({**self._run, **self._last_reserved})

    def save(self, position: int, image: Image.Image, facts: dict[str, Any]) -> Path:
        """Write image number `position` of the run, and return its path.

        Args:
            facts: `prompt`, `seed` and everything else it was made with; stored in the PNG and in the manifest.

        Raises:
            OutputError: the file cannot be written.
        """
        path = self.folder / f"{self._first + position:04d}-seed{facts['seed']}.png"
        entry = {"file": path.name, **facts}
        if self._journal is not None:
            self._journal.add(entry)
        image_grid.save_png(image, path, text=_text_chunks(facts, self._embeds, image.size))
        self._run["images"].append(entry)
        if self._clock() >= self._next_update:
            self._update()
        return path

    def finish(self, images: list[Image.Image], columns: int) -> None:
        """Write the manifest and the contact sheet; after an interruption, of the images made so far.

        A run without images leaves no entry and the other run's sheet.

        Raises:
            OutputError: one of the files cannot be written.
        """
        self._last_reserved = {}
        self._update()
        if self._journal is not None:
            self._journal.remove()
        if images:
            labels = [label(entry, self._scanned()) for entry in self._run["images"]]
            sheet = image_grid.contact_sheet(images, columns=min(columns, len(images)), labels=labels)
            image_grid.save_png(sheet, self.folder / SHEET)

    def _update(self) -> None:
        """Bring this run's entry in the manifest up to date."""
        self._run["images"].sort(key=_file_of)
        entry = {**self._run, **self._last_reserved}
        with self._manifest() as runs:
            own = [position for position, run in enumerate(runs) if _id(run) == self._run["id"]]
            replaced = slice(own[0], own[0] + 1) if own else slice(len(runs), None)
            runs[replaced] = [entry] if self._run["images"] else []

    @contextlib.contextmanager
    def _manifest(self) -> Iterator[list]:
        """The recorded runs, to be changed in place; they are written, for all of them, at the end of the block."""
        path, begun = self.folder / MANIFEST, self._clock()
        with output_lock.waited_for(self.folder / _LOCK):
            # Before they are read: a run that is killed later may have added more.
            abandoned = [path for path in _journals(self.folder) if journal.is_abandoned(path)]
            runs = recorded_runs(self.folder)
            yield runs
            if runs:
                atomic.write_json(path, {"runs": runs})
            else:
                atomic.remove_file(path)
            for taken_over in abandoned:
                atomic.remove_file(taken_over)
        now = self._clock()
        self._next_update = now + _UPDATE_SHARE * (now - begun)

    def _scanned(self) -> list[str]:
        """The settings that differ between the images."""
        images = self._run["images"]
        return [key for key in SCANNED if len({entry.get(key) for entry in images}) > 1]


def label(entry: dict[str, Any], scanned: list[str]) -> str:
    """The text under an image: its prompt, its seed, and the settings that differ between the images."""
    settings = "".join(f", {SCANNED[key]} {entry[key]:g}" for key in scanned)
    return f"{entry['prompt']}  (seed {entry['seed']}{settings})"


def recorded_runs(folder: Path) -> list:
    """The entries of all runs in a folder: those of the manifest, with what only the runs' journals hold so far.

    Raises:
        OutputError: the manifest was not written by this program.
    """
    runs = _runs_in(folder / MANIFEST)
    for path in _journals(folder):
        header, *entries = journal.read(path) or [{}]
        own = next((run for run in runs if _id(run) is not None and _id(run) == _id(header)), None)
        known = own["images"] if own and isinstance(own.get("images"), list) else []
        names = set(map(_file_of, known))
        made = [entry for entry in entries if _file_of(entry) not in names and _is_there(folder, entry)]
        if own is not None:
            own["images"] = sorted([*known, *made], key=_file_of)
        elif made:
            runs.append({**header, "images": made})
    return runs


def _journals(folder: Path) -> list[Path]:
    """The journals of runs that have not ended, and of those that were killed."""
    return sorted(path for path in folder.glob(_JOURNAL.format("*")) if path.is_file() and not path.is_symlink())


def _file_of(entry: Any) -> str:
    """The file that an entry is about, or "" where it does not say."""
    name = entry.get("file") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _is_there(folder: Path, entry: Any) -> bool:
    """Whether the image of an entry is there: a run may have ended before, and a user may have removed it since."""
    return _NUMBERED.fullmatch(_file_of(entry)) is not None and (folder / _file_of(entry)).is_file()


def _id(run: Any) -> Any:
    return run.get("id") if isinstance(run, dict) else None


def _last_reserved(run: Any) -> int:
    """The last number that a run has reserved and perhaps not used yet; -1 for a run that has finished."""
    last = run.get("last_reserved") if isinstance(run, dict) else None
    return last if isinstance(last, int) else -1


def _runs_in(path: Path) -> list:
    try:
        content = user_files.read_bytes(path, user_files.RECORD)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror}); choose another --output_dir") from error
    try:
        return checked(parse_json(content, allows_odd_names=True), _Manifest)["runs"]
    except UnusableJson as error:
        raise OutputError(f"{path} was not written by infer.py: it {error}; choose another --output_dir") from error


def _text_chunks(facts: dict[str, Any], embeds: list, size: tuple[int, int]) -> dict[str, str]:
    """The text chunks of a PNG: each fact under its own name, and the main ones in one text for other programs."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    return {"parameters": infotext.parameters(facts, embeds, size), **plain, "embeds": json.dumps(embeds)}
