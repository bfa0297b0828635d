"""Fetch objects into the folder that stands for an address: each complete, or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping

from textual_inversion.storage.client import Client, NotThere, Stored
from textual_inversion.storage.mirror import PLACE, Mirror, State, is_listed, stamp_of
from textual_inversion.storage.units import folders_of
from textual_inversion.system import atomic, temporary_files
from textual_inversion.system.addresses import Address, is_name
from textual_inversion.system.errors import StorageError
from textual_inversion.system.user_files import size_text

WRITER = ".textual-inversion-writer"  # names the mirror that wrote last, see `upload`
_TRIES = 3  # an object may be replaced while it is fetched


def below(address: Address, objects: Mapping[str, Stored]) -> dict[str, Stored]:
    """Name below an address -> what is known of the object.

    Whatever has a name that no file of a mirror can have is left out: what marks an empty folder, what would lead out
    of it, and what would be taken for a lock or for unfinished writing.
    """
    prefix = f"{address.key}/" if address.key else ""
    names = {key.removeprefix(prefix): one for key, one in objects.items() if key.startswith(prefix)}
    folders = {parent for name in names for parent in folders_of(name)}  # an object may have the name of one
    left_out = {*folders, WRITER}
    return {name: one for name, one in names.items() if name not in left_out and _can_be(name)}


def _can_be(name: str) -> bool:
    return is_name(name) and all(map(is_listed, name.split("/")))


def fetch(client: Client, mirror: Mirror, state: State, names: Iterable[str], found: Mapping[str, Stored]) -> int:
    """Bring some files of the mirror up to date with their objects; returns how many were fetched.

    Raises:
        StorageError: an object cannot be read.
        OutputError: a file cannot be written.
    """
    here, wanted = mirror.scan(), []
    for name in names:
        known = (found[name].size, found[name].tag)
        if name not in here or here[name] != state.stamps.get(name) or state.tags.get(name) != known:
            wanted.append(name)
    _clear(mirror, wanted)
    _check_room(mirror, sum(found[name].size for name in wanted))
    fetched = 0
    try:
        for name in wanted:
            state.forget(name)
            taken = _fetched(client, mirror, name, found[name])
            if taken is not None:
                state.note(name, stamp_of((mirror.folder / name).lstat()), taken.size, taken.tag)
                fetched += 1
    finally:
        mirror.save(state)
    return fetched


def _clear(mirror: Mirror, wanted: Iterable[str]) -> None:
    """Remove what killed processes left unfinished where files are to be written: a model has gigabytes."""
    for folder in {(mirror.folder / name).parent for name in wanted}:
        left = [name for name in os.listdir(folder) if temporary_files.is_temporary(name)] if folder.is_dir() else []
        for target in {name[1:].rpartition(".tmp-")[0] for name in left}:
            temporary_files.remove_leftovers(folder, None, target)


def _check_room(mirror: Mirror, size: int) -> None:
    """Refuse what the disk cannot hold, before any of it is fetched; raises StorageError."""
    free = shutil.disk_usage(mirror.folder).free
    if size > free:
        raise StorageError(
            f"{mirror.address}: {size_text(size)} are to be fetched, and {mirror.folder.parent.parent} has "
            f"{size_text(free)} left; free some space, or set {PLACE} to a folder on another disk"
        )


def _fetched(client: Client, mirror: Mirror, name: str, stored: Stored) -> Stored | None:
    """Fetch one object; returns what is known of it, and None where it is gone by now."""
    path, key, what = mirror.folder / name, mirror.address.key_of(name), f"{mirror.address}/{name}"
    atomic.make_folder(path.parent)
    listed = stored
    for _ in range(_TRIES):
        try:
            atomic.write_parts(path, _measured(client.parts(key), stored.size, what))
            return stored
        except NotThere:
            return None
        except _Changed:
            again = client.look(key)
            if again is None:
                return None
            stored = again
            _check_room(mirror, stored.size)
    if stored == listed:
        raise StorageError(f"{what} is not as large as the service says; upload it again")
    raise StorageError(f"{what} changes while it is read; try again when nobody writes there")


class _Changed(StorageError):
    """An object is not of the size that was listed."""


def _measured(parts: Iterator[bytes], size: int, what: str) -> Iterator[bytes]:
    read = 0
    for part in parts:
        read += len(part)
        if read > size:
            break
        yield part
    if read != size:
        raise _Changed(f"{what} is not as large as its listing says", is_lasting=False)
