"""Fetch what is to be read from an address: a file, or those of a folder that will be looked at.

Only what is new since the last time comes over the wire. What is gone at the address goes here too.
"""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from textual_inversion.storage.client import Client, Stored
from textual_inversion.storage.fetching import below, fetch
from textual_inversion.storage.mirror import READ, Mirror
from textual_inversion.system import atomic
from textual_inversion.system.addresses import Address, parsed
from textual_inversion.system.errors import SettingsError, StorageError

# Gives the names that will be read, of those that are there.
Choose = Callable[[Collection[str]], Iterable[str]]


def address(text: str, flag: str = "") -> Address:
    """The parts of an address; raises SettingsError, which does not repeat a text that may hold a key."""
    try:
        return parsed(text)
    except ValueError as error:
        raise SettingsError(f"{f'{flag}: ' if flag else ''}an address of object storage {error}") from None


def everything(names: Collection[str]) -> Iterable[str]:
    """A `Choose` that takes all files."""
    return names


def folder(source: Address, choose: Choose = everything) -> Path:
    """The folder that stands for an address, with the files of it that will be read.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """
    client = Client(source)
    found = below(source, client.listed(source.key))
    if not found:
        is_file = source.key and client.look(source.key) is not None
        raise StorageError(f"{source} is a file, not a folder; give the folder") if is_file else _nothing(source)
    return _taken(client, source, found, choose)


def folders(source: Address) -> Path:
    """The folder that stands for an address, with the folders right in it, which are empty: for a list of them.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """
    found = below(source, Client(source).listed(source.key))
    if not found:
        raise _nothing(source)
    mirror = Mirror(source, READ)
    with mirror.locked():
        mirror.make()
        wanted = {name.partition("/")[0] for name in found if "/" in name}
        for path in [path for path in mirror.folder.iterdir() if path.is_dir() and path.name not in wanted]:
            atomic.remove_folder(path)
        for name in wanted:
            atomic.make_folder(mirror.folder / name)
    return mirror.folder


def file(source: Address, beside: Iterable[str], inside: Choose = everything) -> Path:
    """The file that stands for an address, with what is read from beside it; or a folder, where there is one.

    Args:
        beside: names of files in the same folder, which are read too where they are there.
        inside: of a folder's files.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """
    client = Client(source)
    own = client.look(source.key) if source.key else None
    if own is None:
        return _taken(client, source, _something(source, below(source, client.listed(source.key))), inside)
    # The folder around it is not listed: it may have millions of objects.
    place, name = source.parent, source.name
    seen = {one: client.look(place.key_of(one)) for one in {*beside} - {name}}
    found = {name: own, **{one: stored for one, stored in seen.items() if stored is not None}}
    return _taken(client, place, found, everything, asked={name, *seen}) / name


def _something(source: Address, found: dict[str, Stored]) -> dict[str, Stored]:
    if not found:
        raise _nothing(source)
    return found


def _taken(
    client: Client, source: Address, found: dict[str, Stored], choose: Choose, *, asked: Collection[str] | None = None
) -> Path:
    """The folder of an address with the files that are chosen.

    What an earlier choice has fetched is brought up to date too: two flags may read from one folder.

    Args:
        found: what is there.
        asked: the names that were looked for; None: all.
    """
    mirror = Mirror(source, READ)
    with mirror.locked():
        mirror.make()
        state, here = mirror.state(), {name for name in mirror.scan() if asked is None or name in asked}
        for name in here - found.keys():
            state.forget(name)
            atomic.remove_file(mirror.folder / name)
        mirror.prune()
        fetch(client, mirror, state, sorted((set(choose(found)) | here) & found.keys()), found)
    return mirror.folder


def _nothing(source: Address) -> StorageError:
    return StorageError(f"there is nothing at {source}; correct the address")
