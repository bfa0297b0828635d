"""manifest.json: the record of all runs that drew into a folder, and of their images.

Any number of processes may change it at once: each reads and replaces it while it holds a lock. To rewrite it for each
image would cost the square of their number. So each process adds its images to a journal of its own
(`manifest-ID.jsonl`), whose first line is its run's entry, and brings the manifest up to date now and then. At its end
the journal goes. That of a process that was killed stays until another one takes it over; `recorded_runs` reads both.
Several processes may draw the images of one run: their journals name the same run.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from textual_inversion.system import atomic, journal, output_lock, user_files
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json, whole_number
from textual_inversion.system.errors import OutputError

MANIFEST = "manifest.json"
LEGAL_NAME = re.compile(r"(\d{4,9})-seed\d+\.png")
_LOCK = ".manifest.lock"
_JOURNAL = "manifest-{}.jsonl"
_MOST_NUMBER = 10**9
# Of a hundred thousand images with thirty facts each, and as many commas in their prompts.
_MOST_BYTES, _MOST_VALUES = 256 << 20, 6_000_000


class PlanRecord(TypedDict, total=False):
    """What a run meant to draw.

    Entries:
        key: of all its images, `plan_key`.
        settings: the same with 0 in place of the seed, where the program drew the seed.
        seed: that was drawn by the program.
        first, count: the numbers of its images.
        is_grid: it is continued even when it is complete, and other grids are refused.
        launch: of the processes that drew last, `ProcessShare.launch`.
    """

    key: str
    settings: str
    seed: whole_number(0, 2**64 - 1)
    first: whole_number(0, _MOST_NUMBER)
    count: whole_number(0, _MOST_NUMBER)
    is_grid: bool
    launch: str


class _Run(TypedDict, total=False):
    """The entries of a run that later runs look at."""

    id: str
    images: list[dict[str, Any]]
    plan: PlanRecord
    last_reserved: whole_number(-1, _MOST_NUMBER)


class _Manifest(TypedDict):
    runs: list[_Run]


def runs_in(folder: Path) -> list[dict[str, Any]]:
    """The runs in a folder's manifest alone.

    Raises:
        OutputError: it was not written by this program, or cannot be read.
    """
    path = folder / MANIFEST
    try:
        content = user_files.read_bytes(path, _MOST_BYTES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(f"{path} cannot be read ({error.strerror}); choose another --output_dir") from error
    try:
        return checked(parse_json(content, allows_odd_names=True, most_items=_MOST_VALUES), _Manifest)["runs"]
    except UnusableJson as error:
        raise OutputError(f"{path} was not written by infer.py: it {error}; choose another --output_dir") from error


def recorded_runs(folder: Path) -> list[dict[str, Any]]:
    """The entries of all runs in a folder: those of the manifest, with what only the journals hold so far.

    Raises:
        OutputError: the manifest was not written by this program, or cannot be read.
    """
    runs, there = runs_in(folder), sizes_in(folder)
    for path in journals_in(folder):
        header, *entries = journal.read(path, _MOST_BYTES) or [{}]
        made = {file_of(entry): entry for entry in entries if file_of(entry) in there}
        own = next((run for run in runs if run.get("id") is not None and run["id"] == header.get("id")), None)
        if own is None and (made or "plan" in header):
            own = {**header, "images": []}
            if not _is_run(own):
                continue
            runs.append(own)
        if own is not None and made:
            known = {file_of(entry): entry for entry in own.get("images", ())}
            own["images"] = [entry for _, entry in sorted((known | made).items(), key=lambda item: number_of(item[0]))]
    return runs


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The recorded runs, to be changed in place; they are written, for all of them, at the end of the block.

    The journals of processes that were killed are taken over.

    Raises:
        OutputError: the manifest cannot be read or written, or was not written by this program.
    """
    with output_lock.waited_for(folder / _LOCK):
        # Before they are read: a run that is killed later may have added more.
        abandoned = [path for path in journals_in(folder) if journal.is_abandoned(path)]
        runs = recorded_runs(folder)
        yield runs
        if kept := [run for run in runs if run.get("images") or not _is_over(run, folder, abandoned)]:
            atomic.write_bytes(folder / MANIFEST, _text(kept))
        else:
            atomic.remove_file(folder / MANIFEST)
        for taken_over in abandoned:
            atomic.remove_file(taken_over)


def new_journal(folder: Path, run: dict[str, Any], token: str) -> journal.Journal:
    """A journal of this process for a run, whose entry is its first line; `token` is of this process."""
    made = journal.Journal(folder / _JOURNAL.format(f"{run['id']}-{token}"))
    made.add({name: value for name, value in run.items() if name != "images"})
    return made


def journals_in(folder: Path, run_id: str = "") -> list[Path]:
    """The journals of processes that have not ended, and of those that were killed; of all runs, or of one."""
    found = (path for path in folder.glob(_JOURNAL.format("*")) if path.name.startswith(f"manifest-{run_id}"))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def plan_key(keys: Sequence[str]) -> str:
    """The key of all images of a run, in their order, from the key of each: 32 hexadecimal digits."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


def sizes_in(folder: Path) -> dict[str, int]:
    """File name -> bytes of every numbered image in a folder; -1 for a link or folder, which takes a number too."""
    sizes = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if LEGAL_NAME.fullmatch(entry.name):
                with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                    status = entry.stat(follow_symlinks=False)
                    sizes[entry.name] = status.st_size if stat.S_ISREG(status.st_mode) else -1
    return sizes


def file_of(entry: Any) -> str:
    """The file that an entry is about, or "" where it does not say."""
    name = entry.get("file") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def number_of(name: str) -> int:
    """The number of an image's file; -1 for another name."""
    found = LEGAL_NAME.fullmatch(name)
    return int(found[1]) if found else -1


def last_number(run: dict[str, Any]) -> int:
    """The last number that a run has taken for itself; -1 for one that says nothing of it."""
    plan = run.get("plan", {})
    return max(plan.get("first", 0) + plan.get("count", 0) - 1, run.get("last_reserved", -1))


def _is_run(value: dict[str, Any]) -> bool:
    try:
        checked(value, _Run)
    except UnusableJson:
        return False
    return True


def _is_over(run: dict[str, Any], folder: Path, abandoned: list[Path]) -> bool:
    """Whether no process works on a run any more, which has no image."""
    alive = {path for path in journals_in(folder, str(run.get("id", ""))) if path not in abandoned}
    return "id" in run and not alive


def _text(runs: list[dict[str, Any]]) -> bytes:
    """The manifest: JSON with an image on each line, which is quick to write and can be read by people."""
    whole = ",\n".join(map(_run_text, runs))
    # Only names with bytes that are no UTF-8 have something to replace, and that is how JSON writes it.
    return f'{{"runs": [\n{whole}\n]}}\n'.encode("utf-8", "backslashreplace")


def _run_text(run: dict[str, Any]) -> str:
    images = ",\n".join(f"   {json.dumps(image, ensure_ascii=False)}" for image in run.get("images", ()))
    parts = [f" {json.dumps(name)}: {json.dumps(value, ensure_ascii=False, indent=1)}" for name, value in run.items()
             if name != "images"]  # fmt: skip
    return "{\n" + ",\n".join([*parts, f' "images": [\n{images}\n ]']) + "\n}"
