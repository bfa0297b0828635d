"""The folder of this machine that stands for an address, and what is known of both.

    CACHE/textual_inversion/storage/HASH/NAME/         the folder, with the name that the address has
    CACHE/textual_inversion/storage/HASH/state.json    which files of it lie at the address, as they are here
    CACHE/textual_inversion/storage/HASH/lock          held while either is compared or changed

CACHE is `XDG_CACHE_HOME` or `~/.cache`, else a folder for temporary files; `TEXTUAL_INVERSION_STORAGE` names another
place for all of it. The folder stays when the program ends: what could not be uploaded is uploaded by the next command.
"""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import TypedDict

from textual_inversion.storage.credentials import bos_settings, s3_endpoint, s3_settings
from textual_inversion.system import atomic, output_lock, temporary_files, user_files
from textual_inversion.system.addresses import Address, is_name, stand_for
from textual_inversion.system.checked_json import UnusableJson, checked, parse_json, whole_number
from textual_inversion.system.errors import OutputError
from textual_inversion.system.home import home_folder

READ, WRITE = "read", "write"
PLACE = "TEXTUAL_INVERSION_STORAGE"
_FORMAT = 1
_MOST_ITEMS = 4_000_000  # values in what is known of a mirror; a file has a dozen
_Whole = whole_number(0, 2**63)

Stamp = tuple[int, int, int]  # size, time of change in ns, number of the file: another one after each change


class _Entry(TypedDict):
    stamp: list[_Whole]
    size: _Whole
    tag: str


class _State(TypedDict):
    format: whole_number(_FORMAT, _FORMAT)
    mirror: str
    files: dict[str, _Entry]


@dataclass
class State:
    """What is known of a mirror.

    Attributes:
        mirror: a name of this mirror that no other has, by which it knows its own writing.
        stamps: name -> of the file, as it lies at the address.
        tags: name -> (size, tag) of the object.
    """

    mirror: str = field(default_factory=lambda: secrets.token_hex(16))
    stamps: dict[str, Stamp] = field(default_factory=dict)
    tags: dict[str, tuple[int, str]] = field(default_factory=dict)

    def note(self, name: str, stamp: Stamp, size: int, tag: str) -> None:
        """Note that a file lies at the address as it is here."""
        self.stamps[name], self.tags[name] = stamp, (size, tag)

    def forget(self, name: str) -> None:
        """Note that a file does not lie at the address."""
        self.stamps.pop(name, None)
        self.tags.pop(name, None)


class Mirror:
    """The folder that stands for an address.

    Args:
        address: of a folder.
        use: `READ` or `WRITE`: what is only read is kept apart from what a run writes.

    Raises:
        OutputError: there is no room for it on this machine.
    """

    def __init__(self, address: Address, use: str):
        self.address = address
        words = "\n".join((use, str(address), _endpoint(address)))
        home = atomic.make_folder(_top() / hashlib.sha256(words.encode()).hexdigest()[:24])
        self.folder = home / address.name
        self._state, self._lock = home / "state.json", home / "lock"

    def make(self) -> Path:
        """The folder, which is made unless it is there."""
        stand_for(self.folder, self.address)
        return atomic.make_folder(self.folder)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the mirror: other processes of this machine wait."""
        with output_lock.waited_for(self._lock):
            yield

    def state(self) -> State:
        """What is known of it; a fresh one where nothing is."""
        try:
            content = user_files.read_bytes(self._state, user_files.RECORD)
            found = checked(parse_json(content, most_items=_MOST_ITEMS), _State)
        except (OSError, UnusableJson):
            return State()
        files = {name: entry for name, entry in found["files"].items() if len(entry["stamp"]) == 3}
        stamps = {name: tuple(entry["stamp"]) for name, entry in files.items()}
        return State(found["mirror"], stamps, {name: (one["size"], one["tag"]) for name, one in files.items()})

    def save(self, state: State) -> None:
        """Keep what is known of it; raises OutputError."""
        files = {
            name: {"stamp": list(stamp), "size": state.tags[name][0], "tag": state.tags[name][1]}
            for name, stamp in sorted(state.stamps.items())
        }
        atomic.write_json(self._state, {"format": _FORMAT, "mirror": state.mirror, "files": files})

    def scan(self, inside: str = "") -> dict[str, Stamp]:
        """Name -> stamp of every complete file in the folder, or in one below it, with slashes.

        Links are left out, and so are names that no object can have.
        """
        found: dict[str, Stamp] = {}
        for top, folders, names in os.walk(self.folder / inside):
            folders[:] = [name for name in folders if is_listed(name)]
            for name in names:
                if is_listed(name):
                    path = Path(top, name)
                    with contextlib.suppress(OSError):  # gone meanwhile
                        own, stamp = path.relative_to(self.folder).as_posix(), stamp_of(path.lstat())
                        if not path.is_symlink() and is_name(own):
                            found[own] = stamp
        return found

    def prune(self) -> None:
        """Remove folders without files: one that is gone at the address may be a file there now."""
        for top, _, _ in os.walk(self.folder, topdown=False):
            if Path(top) != self.folder and not os.listdir(top):
                atomic.remove_folder(top)

    def set_aside(self) -> Path:
        """Give the folder another name, and return it."""
        number = 1
        while (target := self.folder.with_name(f"{self.folder.name}.kept-{number}")).exists():
            number += 1
        atomic.move(self.folder, target)
        return target


def is_listed(name: str) -> bool:
    """Whether a file or folder of this name is one of a mirror: neither unfinished nor a lock."""
    return name != output_lock.FILE_NAME and not temporary_files.is_temporary(name)


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes with a file."""
    return found.st_size, found.st_mtime_ns, found.st_ino


def _endpoint(address: Address) -> str:
    """Where a service is: buckets of the same name at two places are two."""
    if address.scheme == "bos":
        return bos_settings()["endpoint"]
    return s3_endpoint(s3_settings()) if address.scheme == "s3" else ""


def _top() -> Path:
    """Where mirrors are kept; raises OutputError where that cannot be."""
    named, home = os.environ.get(PLACE), home_folder()
    if named:
        return _private(Path(named).expanduser())
    cache = Path(os.environ["XDG_CACHE_HOME"]) if os.environ.get("XDG_CACHE_HOME") else home and home / ".cache"
    if cache is not None:
        with contextlib.suppress(OutputError):
            return _private(cache / "textual_inversion" / "storage")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return _private(Path(tempfile.gettempdir(), f"textual-inversion-storage-{user}"))


def _private(folder: Path) -> Path:
    """A folder that only this user may enter; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise OutputError(f"{folder} is another user's; set {PLACE} to a folder of your own")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"{folder} cannot be written; set {PLACE} to a folder that can")
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}); set {PLACE} to a folder that can") from None
    return folder
