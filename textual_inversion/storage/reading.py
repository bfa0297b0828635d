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


def check(source: Address) -> None:
    """Raise StorageError where an address cannot be asked, or nothing is there."""
    client = Client(source)
    if not client.beside(source.key) and not client.listed(source.key) and client.look(source.key) is None:
        raise _nothing(source)


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


def file(source: Address, beside: Choose, inside: Choose = everything) -> Path:
    """The file that stands for an address, with what is read from beside it; or a folder, where there is one.

    Args:
        beside: of the files in the same folder, which are read too.
        inside: of a folder's files.

    Raises:
        StorageError: it cannot be read, or there is nothing.
    """
    client = Client(source)
    if source.key and client.look(source.key) is not None:
        found, name = below(source.parent, client.beside(source.parent.key)), source.name
        top = _taken(client, source.parent, found, lambda names: {name, *beside(names)}, is_top=True)
        return top / name
    found = below(source, client.listed(source.key))
    if not found:
        raise _nothing(source)
    return _taken(client, source, found, inside)


def _taken(client: Client, source: Address, found: dict[str, Stored], choose: Choose, *, is_top: bool = False) -> Path:
    """The folder of an address with the files that are chosen; `is_top`: only those right in it were listed.

    What an earlier choice has fetched is brought up to date too: two flags may read from one folder.
    """
    mirror = Mirror(source, READ)
    with mirror.locked():
        mirror.make()
        state, here = mirror.state(), {name for name in mirror.scan() if not (is_top and "/" in name)}
        for name in here - found.keys():
            state.forget(name)
            atomic.remove_file(mirror.folder / name)
        fetch(client, mirror, state, sorted((set(choose(found)) | here) & found.keys()), found)
    return mirror.folder


def _nothing(source: Address) -> StorageError:
    return StorageError(f"there is nothing at {source}; correct the address")
