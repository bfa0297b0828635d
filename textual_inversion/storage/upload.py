"""One pass that brings an address up to date with its folder, in an order in which no reader sees half of anything.

The seal of a unit (`units`) is uploaded last, when all other files of the unit lie there as they lie here, and removed
first, before anything of the unit is replaced or removed. So whoever finds a seal finds what it belongs to.

A record names files that were written before it. So a file that was written anew since the folder was looked through
waits for the next pass, which knows of those too: a search whose machine is lost has no trial as done whose results are
lost. A log that has only grown goes as it is.

The list of a run's files (`written_files`) goes first, and as it is now: it may name a file that is not there yet, and
must name all that are. Nothing is removed before all that is new is there: an address never has fewer whole checkpoints
than it had.

An object `.textual-inversion-writer` names the mirror that wrote last. Services differ in what they promise of two that
write at the same time, so it is no lock: whoever begins later writes, and the other one stops and says so.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from textual_inversion.storage.client import Client
from textual_inversion.storage.fetching import WRITER
from textual_inversion.storage.mirror import Mirror, Stamp, State, stamp_of
from textual_inversion.storage.units import INDEX, is_seal, seal_of
from textual_inversion.system.errors import StorageError
from textual_inversion.system.links import open_below
from textual_inversion.system.written_files import FILE_NAME as LIST

_SMALL = 8 << 20  # bytes that are read before they are sent, so that a file that grows is cut at one place
_LIGHT, _PACE_SECONDS = 1 << 20, 60.0  # bytes of a file that may go up at any time; between two times of a larger one
_LONGEST_WRITER = 256


class Taken(StorageError):
    """Another machine writes to the address."""


def writer(client: Client, mirror: Mirror) -> str:
    """The name of the mirror that wrote to the address last; "" where none did."""
    key = mirror.address.key_of(WRITER)
    if client.look(key) is None:
        return ""
    found = b""
    for part in client.parts(key):
        found += part
        if len(found) > _LONGEST_WRITER:  # none of ours is as long
            return found[:_LONGEST_WRITER].decode("utf-8", "replace")
    return found.decode("utf-8", "replace").strip()


def waiting(mirror: Mirror, state: State, here: dict[str, Stamp] | None = None) -> list[str]:
    """The files that are not at the address as they are here, in the order in which they go there."""
    here = mirror.scan() if here is None else here
    seals = {name for name in here if is_seal(name)}
    units = {name: seal_of(name, seals) for name, stamp in here.items() if state.stamps.get(name) != stamp}
    newest: dict[str, int] = {}
    for name, unit in units.items():
        newest[unit] = max(newest.get(unit, 0), here[name][1])

    def order(name: str) -> tuple:
        own, unit = name.rpartition("/")[2], units[name]
        turn = 0 if own == LIST else 2 if own == INDEX else 1  # a pipeline is sealed last of all
        return turn, newest[unit], unit, is_seal(name), here[name][1], name

    return sorted(units, key=order)


class Pace:
    """Lets a large file that grows, such as a log with images, go up once a minute, and not in every pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._last = clock, {}

    def is_due(self, name: str, size: int) -> bool:
        """Whether a file of so many bytes may go up now."""
        return size <= _LIGHT or name not in self._last or self._clock() - self._last[name] >= _PACE_SECONDS

    def note(self, name: str) -> None:
        """Note that a file went up."""
        self._last[name] = self._clock()


class Pass:
    """Brings an address up to date, once.

    Args:
        pace: None: everything that is new goes up.
        went: called with the bytes that were read of a file, and with 0 when a file is there.
        may_remove: whether what is gone here goes there too.
    """

    def __init__(
        self,
        client: Client,
        mirror: Mirror,
        state: State,
        went: Callable[[int], None],
        *,
        may_remove: bool = True,
        pace: Pace | None = None,
    ):
        self._client, self._mirror, self._state, self._went = client, mirror, state, went
        self._may_remove, self._pace = may_remove, pace

    def run(self) -> int:
        """Upload what is new, then remove what is gone; returns how many files were uploaded.

        Raises:
            StorageError: the service cannot be reached, or refuses.
            Taken: another machine writes to the address.
        """
        here = self._mirror.scan()
        names = self._due(here)
        gone = [name for name in self._state.stamps if name not in here] if self._may_remove and here else []
        if not names and not gone:
            return 0
        if writer(self._client, self._mirror) != self._state.mirror:
            raise Taken(f"another machine writes to {self._mirror.address} now")
        done = 0
        try:
            if self._unseal(names):
                names = self._due(here)  # the seals too, even such as did not change
            for name in names:
                done += self._upload(name, here[name])
            self._remove(gone)
        finally:
            self._mirror.save(self._state)
        return done

    def _due(self, here: dict[str, Stamp]) -> list[str]:
        names, pace = waiting(self._mirror, self._state, here), self._pace
        if pace is None:
            return names
        seals = {name for name in here if is_seal(name)}
        return [name for name in names if seal_of(name, seals) or pace.is_due(name, here[name][0])]

    def _unseal(self, names: Iterable[str]) -> bool:
        """Remove the seals of what is about to be changed; returns whether there were any."""
        seals = {name for name in self._state.stamps if is_seal(name)}
        broken = seals & {seal_of(name, seals) for name in names}
        for name in sorted(broken):
            self._take_away(name)
            self._mirror.save(self._state)  # at once: a seal that is thought to be there would not be put back
        return bool(broken)

    def _upload(self, name: str, seen: Stamp) -> bool:
        """Upload a file, unless it is gone or another one by now, or is a seal and its unit has changed meanwhile."""
        if is_seal(name) and not self._is_whole(name):
            return False
        try:
            with open(open_below(self._mirror.folder, name), "rb") as file:
                stamp = stamp_of(os.fstat(file.fileno()))
                if _is_written_anew(name, seen, stamp):
                    return False
                content = file.read(_SMALL + 1) if stamp[0] <= _SMALL else None
                source = _Counted(file, self._went) if content is None else content
                tag = self._client.put(self._mirror.address.key_of(name), source)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False
        self._state.note(name, stamp, stamp[0], tag)
        if self._pace is not None:
            self._pace.note(name)
        self._went(0)
        return True

    def _is_whole(self, seal: str) -> bool:
        """Whether all of a unit but its seal lies at the address as it is here."""
        here = self._mirror.scan(seal.rpartition("/")[0]).items()
        return all(self._state.stamps.get(name) == stamp for name, stamp in here if _is_sealed_by(name, seal))

    def _remove(self, gone: Iterable[str]) -> None:
        for name in sorted(gone, key=lambda name: (not is_seal(name), name)):
            if not Path(self._mirror.folder, name).exists():
                self._take_away(name)

    def _take_away(self, name: str) -> None:
        self._client.remove(self._mirror.address.key_of(name))
        self._state.forget(name)


def _is_written_anew(name: str, seen: Stamp, now: Stamp) -> bool:
    """Whether a file, but the list, is another one than was seen, and not the same one that grew.

    A JSON file never grows. Written anew twice, it may be larger and have its first number again.
    """
    has_grown = now[2] == seen[2] and now[0] >= seen[0] and not name.endswith(".json")
    return now != seen and not has_grown and name.rpartition("/")[2] != LIST


def _is_sealed_by(name: str, seal: str) -> bool:
    return name != seal and seal_of(name, (seal,)) == seal


class _Counted:
    """A file that says how much of it was read."""

    def __init__(self, file, went: Callable[[int], None]):
        self._file, self._went = file, went

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._went(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As that of a file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As that of a file."""
        return self._file.tell()
