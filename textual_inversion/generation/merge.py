"""Bring together what the processes of one grid drew into folders of their own.

Each folder holds a part of the same plan, under numbers of its own; an image is known by its position in the plan.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textual_inversion.generation import manifest
from textual_inversion.generation.gallery import RunState, is_whole, refuse_foreign
from textual_inversion.system import atomic, user_files
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.output_folder import make_output_folder

# Position in the plan -> (the image's folder, its entry).
_Images = dict[int, tuple[Path, dict[str, Any]]]


def merge_folders(folders: Sequence[Path], target: Path) -> tuple[int, RunState]:
    """Copy the complete images of a grid, and their records, into one folder; the sources stay as they are.

    Args:
        folders: each holds images of the same grid.
        target: is made unless it is there; may hold a part of the grid already.

    Returns:
        The number of images that were copied, and how far the grid has come in `target`.

    Raises:
        SettingsError: a folder holds no grid, or another one than the first.
        OutputError: `target` holds another grid, or a file under a number of this one; or it cannot be written. Then
            nothing was changed in it.
    """
    grids = _grids_in(folders)
    make_output_folder(str(target))
    found: _Images = {}
    for folder, grid in zip(folders, grids, strict=True):
        found = _complete(folder, grid) | found
    with manifest.changing(target) as runs:
        run = _run_in(target, runs, grids[0])
        own, first, count = _complete(target, run), run["plan"]["first"], run["plan"]["count"]
        entries = {position: _renumbered(entry, first + position) for position, (_, entry) in (found | own).items()}
        keys = {entry["file"]: entry["key"] for entry in entries.values()}
        whole = {entry["file"] for _, entry in own.values()}
        refuse_foreign(target, manifest.sizes_in(target), range(first, first + count), keys, whole)
        journal = manifest.new_journal(target, run, secrets.token_hex(4))
    missing = {position: source for position, source in sorted(found.items()) if position not in own}
    for position, (folder, entry) in missing.items():
        content = user_files.read_bytes(folder / entry["file"], user_files.IMAGE)
        journal.add(entries[position])  # before the image appears
        atomic.write_bytes(target / entries[position]["file"], content)
    with manifest.changing(target) as runs:
        there = _complete(target, next(other for other in runs if other.get("id") == run["id"]))
    journal.remove()
    return len(missing), RunState([there[position][1] for position in sorted(there)], count, run)


def _grids_in(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The entry of the grid in each folder, which is one grid; raises SettingsError."""
    grids = [_grid_in(folder) for folder in folders]
    for folder, grid in zip(folders, grids, strict=True):
        if grid["plan"]["key"] != grids[0]["plan"]["key"]:
            raise SettingsError(f"--merge: {folder} holds another grid than {folders[0]}; merge those of one grid only")
    return grids


def _grid_in(folder: Path) -> dict[str, Any]:
    """The entry of the grid that a folder holds; raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError(f"--merge: there is no folder {folder}; give folders that infer.py has drawn into")
    grid = next((run for run in reversed(manifest.recorded_runs(folder)) if _is_grid(run)), None)
    if grid is None:
        raise SettingsError(f"--merge: {folder} holds no grid; give folders that infer.py has drawn one into")
    return grid


def _is_grid(run: Mapping[str, Any]) -> bool:
    plan = run.get("plan", {})
    return bool(plan.get("is_grid")) and {"key", "first", "count"} <= plan.keys()


def _run_in(target: Path, runs: list[dict[str, Any]], grid: dict[str, Any]) -> dict[str, Any]:
    """The grid's entry in the target folder, which is added where it is missing."""
    own = next((run for run in runs if _is_grid(run)), None)
    if own is None:
        first = max([*map(manifest.number_of, manifest.sizes_in(target)), *map(manifest.last_number, runs)], default=-1)
        own = {**grid, "id": secrets.token_hex(8), "plan": {**grid["plan"], "first": first + 1}, "images": []}
        runs.append(own)
    elif own["plan"]["key"] != grid["plan"]["key"]:
        raise OutputError(f"{target} holds another grid than the folders of --merge; choose another --output_dir")
    return own


def _complete(folder: Path, run: Mapping[str, Any]) -> _Images:
    """The complete images of a run by their positions."""
    there, first, count = manifest.sizes_in(folder), run["plan"]["first"], run["plan"]["count"]
    positions = {manifest.number_of(manifest.file_of(entry)) - first: entry for entry in run.get("images", ())}
    return {
        position: (folder, entry)
        for position, entry in positions.items()
        if 0 <= position < count and isinstance(entry.get("key"), str) and is_whole(entry, there)
    }


def _renumbered(entry: dict[str, Any], number: int) -> dict[str, Any]:
    return {**entry, "file": f"{number:04d}{entry['file'][entry['file'].index('-') :]}"}
