"""Fetch objects into the folder that stands for an address: each complete, or not at all."""

from collections.abc import Iterable, Iterator, Mapping

from textual_inversion.storage.client import Client, NotThere, Stored
from textual_inversion.storage.mirror import Mirror, Stamp, State, stamp_of
from textual_inversion.system import atomic
from textual_inversion.system.addresses import Address, is_name
from textual_inversion.system.errors import StorageError

WRITER = ".textual-inversion-writer"  # names the mirror that wrote last, see `upload`
_TRIES = 3  # an object may be replaced while it is fetched


def below(address: Address, objects: Mapping[str, Stored]) -> dict[str, Stored]:
    """Name below an address -> what is known of the object.

    Whatever has a name that no file can have is left out: what marks an empty folder, and what would lead out of it.
    """
    prefix = f"{address.key}/" if address.key else ""
    names = {key.removeprefix(prefix): one for key, one in objects.items() if key.startswith(prefix)}
    folders = {parent for name in names for parent in _folders_of(name)}  # an object may have the name of one
    left_out = {*folders, WRITER}
    return {name: one for name, one in names.items() if is_name(name) and name not in left_out}


def _folders_of(name: str) -> Iterator[str]:
    while "/" in name:
        name = name.rpartition("/")[0]
        yield name


def fetch(client: Client, mirror: Mirror, state: State, names: Iterable[str], found: Mapping[str, Stored]) -> int:
    """Bring some files of the mirror up to date with their objects; returns how many were fetched.

    Raises:
        StorageError: an object cannot be read.
        OutputError: a file cannot be written.
    """
    here, fetched = mirror.scan(), 0
    try:
        for name in names:
            known = (found[name].size, found[name].tag)
            if name in here and here[name] == state.stamps.get(name) and state.tags.get(name) == known:
                continue
            state.forget(name)
            if (stamp := _fetched(client, mirror, name, found[name])) is not None:
                state.note(name, stamp, *known)
                fetched += 1
    finally:
        mirror.save(state)
    return fetched


def _fetched(client: Client, mirror: Mirror, name: str, stored: Stored) -> Stamp | None:
    """Fetch one object, and return the stamp of its file; None where the object is gone by now."""
    path, key = mirror.folder / name, mirror.address.key_of(name)
    atomic.make_folder(path.parent)
    for _ in range(_TRIES):
        try:
            atomic.write_parts(path, _measured(client.parts(key), stored.size, f"{mirror.address}/{name}"))
            return stamp_of(path.lstat())
        except NotThere:
            return None
        except _Changed:
            again = client.look(key)
            if again is None:
                return None
            stored = again
    raise StorageError(f"{mirror.address}/{name} changes while it is read; try again when nobody writes there")


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
