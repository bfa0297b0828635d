"""The list of the files that a run wrote, with their hashes: only these are ever uploaded, moved or removed.

    files.json     in the run's folder: name below it -> SHA-256 and kind, replaced in one step with every file

A folder holds more than what a run wrote: files of earlier runs, of other programs, of people. A pattern such as
`samples/*.png` cannot tell them apart; this list can. It is kept by watching `atomic`, through which everything is
written, so no writer can forget it. An entry is written before its file gets its name, so that a process that is killed
leaves no file of its own unlisted; the entry then also holds the hash of the file that had the name before.

A resumed run goes on with the list, if the list knows the checkpoint that it resumes; any other run begins a new one.
"""

import contextlib
import contextvars
import hashlib
import json
import os
import re
import shutil
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from textual_inversion.system import atomic, temporary_files
from textual_inversion.system.errors import OutputError
from textual_inversion.system.links import open_below
from textual_inversion.system.watchers import watched, watchers_of

FILE_NAME = "files.json"
RESULT, PIPELINE, CHECKPOINT, LOG, UPLOAD = KINDS = ("result", "pipeline", "checkpoint", "log", "upload")
_FORMAT = 1
_MOST_BYTES = 64 << 20
_CHUNK = 1 << 20
_LARGE = 64 << 20  # bytes from which a copy is a second name of the file
_HASH, _TOKEN = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")
_kind: contextvars.ContextVar[str] = contextvars.ContextVar("kind", default=RESULT)


class ChangedFileError(Exception):
    """A listed file is not what was written; the message is a phrase such as "was changed since it was written"."""


@dataclass(frozen=True)
class Entry:
    """A file that was written.

    Attributes:
        sha256: of its content, in hexadecimal digits.
        kind: one of `KINDS`: what it is for.
        before: hash of the file of this name that the run had written before; None: there was none.
    """

    sha256: str
    kind: str = RESULT
    before: str | None = None


@contextlib.contextmanager
def of_kind(kind: str) -> Iterator[None]:
    """Files that are written inside the block are listed as one of `KINDS`; others are results."""
    token = _kind.set(kind)
    try:
        yield
    finally:
        _kind.reset(token)


class WrittenFiles:
    """The list of a folder. As a context manager it notes everything that is written below the folder.

    The folder must be locked (see `output_lock`), so that nobody else keeps a list of it.

    Args:
        folder: exists.

    Raises:
        OutputError: the folder has a files.json that this program did not write.
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder).absolute()
        self._earlier, self._token = _read(self.folder)
        self._entries: dict[str, Entry] = {}
        self._watching = contextlib.ExitStack()
        self._is_begun = self._has_lost = False

    def __enter__(self) -> "WrittenFiles":
        """Remove what earlier processes in this folder left half written, and begin to watch."""
        temporary_files.remove_leftovers(self.folder, self._token, FILE_NAME)
        for each in (path for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink()):
            temporary_files.remove_leftovers(each, self._token)
        self._watching.enter_context(watched(self))
        return self

    def __exit__(self, *_: object) -> None:
        if self._has_lost:
            with contextlib.suppress(OutputError):  # the folder may be gone
                self._save()
        self._watching.close()

    def continue_from(self, folder: Path) -> bool:
        """Go on with the earlier list if a folder below this one, such as a checkpoint, is in it and unchanged.

        To be called before the block is entered.
        """
        folder = Path(folder).absolute()
        if self.folder not in folder.parents:
            return False
        inside = f"{folder.relative_to(self.folder).as_posix()}/"
        entries, self._entries = self._entries, self._earlier
        names = [name for name in self._entries if name.startswith(inside)]
        if names and not any(self.change_of(name) for name in names):
            return True
        self._entries = entries
        return False

    # ------------------------------------------------------------------------------------------------------- asking

    def names(self, *kinds: str) -> list[str]:
        """The listed files of some kinds, or all of them; sorted, with slashes, below the folder."""
        return sorted(name for name, entry in self._entries.items() if not kinds or entry.kind in kinds)

    def is_own(self, path: Path) -> bool:
        """Whether what has a name may go: a listed file as it was written, a folder of listed files only, or nothing.

        Args:
            path: absolute.
        """
        if path.is_dir() and not path.is_symlink():
            inside = f"{self._name(path)}/"
            own = (name for name in self._entries if name.startswith(inside) and os.path.lexists(self.folder / name))
            return not self._unlisted(path, ()) and not any(map(self.change_of, own))
        return not os.path.lexists(path) or not self.change_of(self._name(path) or "")

    def change_of(self, name: str) -> str:
        """What has happened to a listed file, as a phrase; "" where it is as it was written."""
        try:
            with self.opened(name):
                return ""
        except ChangedFileError as error:
            return str(error)

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """Open a listed file for reading, after its content was compared with the list.

        Raises:
            ChangedFileError: it is not listed, is gone, is a link or behind one, or was changed.
        """
        with self._open(name) as file:
            self._compare(name, _hash(file))
            file.seek(0)
            yield file

    def copy(self, name: str, target: Path) -> None:
        """Copy a listed file to a new place; what was compared with the list is what the copy holds.

        A large file gets a second name instead, where the file system allows it.

        Raises:
            ChangedFileError: as `opened`; then there is no copy.
            OutputError: the copy cannot be written.
        """
        with self._open(name) as file:
            with atomic.replacing(target) as temporary:
                if not (os.fstat(file.fileno()).st_size >= _LARGE and _is_linked(file, temporary)):
                    with open(temporary, "r+b") as copy:
                        shutil.copyfileobj(file, copy, _CHUNK)
                with open(temporary, "rb") as copy:
                    self._compare(name, _hash(copy))

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        if name not in self._entries:
            raise ChangedFileError("was not written by this run")
        try:
            descriptor = open_below(self.folder, name)
        except FileNotFoundError:
            raise ChangedFileError("is gone") from None
        except OSError as error:
            raise ChangedFileError(f"cannot be read as the file that was written ({error.strerror})") from error
        with open(descriptor, "rb") as file:
            yield file

    def _compare(self, name: str, found: str) -> None:
        entry = self._entries[name]
        if found not in (entry.sha256, entry.before):
            raise ChangedFileError("was changed since it was written")

    # ------------------------------------------------------------------------------------------ what `atomic` tells it

    def will_begin(self, target: Path) -> None:
        """Replace the list of the run before this one, so that it names this process. Raises OutputError."""
        if not self._is_begun and target != self.folder / FILE_NAME:
            self._save()

    def will_write(self, files: Mapping[Path, Path]) -> None:
        """List files that are about to get their names. Raises OutputError: the list cannot be written."""
        names = {self._name(target): source for target, source in files.items()}
        names = {name: source for name, source in names.items() if name not in (None, FILE_NAME)}
        if not names:
            return
        before = dict(self._entries)
        for name, source in names.items():
            with open(source, "rb") as file:
                sha256, earlier = _hash(file), self._entries.get(name)
            self._entries[name] = Entry(sha256, _kind.get(), earlier.sha256 if earlier else None)
        try:
            self._save()
        except OutputError:
            self._entries = before
            raise

    def written(self, target: Path) -> None:
        """Nothing: it is listed already."""

    def may_replace(self, folder: Path, names: Container[str]) -> None:
        """Refuse to replace a folder with files that this run did not write, under other names than the new ones."""
        strange = self._unlisted(folder, names) if folder.is_dir() else []
        if strange:
            raise OutputError(
                f"cannot replace the folder {folder}: {strange[0]} in it is not of this run; move it, or choose "
                "another --output_dir"
            )

    def may_remove(self, path: Path) -> None:
        """Refuse to remove what this run did not write."""
        if not self.is_own(path):
            raise OutputError(f"{path} is not as this run wrote it, so it stays; remove it yourself")

    def removed(self, path: Path) -> None:
        """Forget a file, or all files below a folder; the list on the disk follows with the next file or the last."""
        name = self._name(path)
        if name is not None:
            self._has_lost = True
            self._entries = {n: e for n, e in self._entries.items() if n != name and not n.startswith(f"{name}/")}

    def _name(self, path: Path) -> str | None:
        """The name under which a file is listed; None for one that leads out of the folder, or is a temporary one."""
        parts = path.relative_to(self.folder).parts if self.folder in path.parents else ("..",)
        return None if ".." in parts or any(map(temporary_files.is_temporary, parts)) else "/".join(parts)

    def _unlisted(self, folder: Path, names: Container[str]) -> list[str]:
        """What lies below a folder and is neither listed nor in `names` (relative to it)."""
        found = []
        for top, inner, files in os.walk(folder):
            for path in (Path(top, name) for name in (*files, *inner)):
                own = path.relative_to(folder).as_posix()
                is_plain_folder = path.is_dir() and not path.is_symlink()
                if not is_plain_folder and own not in names and self._name(path) not in self._entries:
                    found.append(own)
                elif path.is_symlink() and own not in names:
                    found.append(own)
        return sorted(set(found))

    def _save(self) -> None:
        files = {name: _plain(entry) for name, entry in sorted(self._entries.items())}
        atomic.write_json(
            self.folder / FILE_NAME, {"format": _FORMAT, "process": temporary_files.TOKEN, "files": files}
        )
        self._is_begun, self._has_lost = True, False


def is_own(path: Path) -> bool:
    """Whether every list that is kept of what lies around a path says `WrittenFiles.is_own`; True where none is kept.

    Whoever removes or replaces what may be somebody else's asks this first.
    """
    path = Path(path).absolute()
    return all(watcher.is_own(path) for watcher in watchers_of(path) if isinstance(watcher, WrittenFiles))


def _plain(entry: Entry) -> dict[str, str]:
    return {key: value for key, value in asdict(entry).items() if value is not None}


def _hash(file: BinaryIO) -> str:
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()


def _is_linked(file: BinaryIO, target: Path) -> bool:
    """Whether an open file could be given a second name in place of an empty file."""
    try:
        target.unlink()
        # With a descriptor (which an absolute path leaves unused) Python calls linkat, which follows this link.
        os.link(f"/proc/self/fd/{file.fileno()}", target, src_dir_fd=file.fileno(), follow_symlinks=True)
    except OSError:
        target.touch()
        return False
    return True


def _read(folder: Path) -> tuple[dict[str, Entry], str | None]:
    """The list of a folder, and the token of the process that kept it last; empty and None where there is none."""
    path = folder / FILE_NAME
    if not os.path.lexists(path):
        return {}, None
    try:
        with open(open_below(folder, FILE_NAME), "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) <= _MOST_BYTES:
            return _checked(json.loads(content))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise OutputError(
        f"{path} is not the list of files that this program keeps under that name; move it, or choose another "
        "--output_dir"
    )


def _checked(value: Any) -> tuple[dict[str, Entry], str]:
    """The parts of a list; raises an error of many kinds where it is none."""
    if value["format"] != _FORMAT or not _TOKEN.fullmatch(value["process"]):
        raise ValueError
    entries = {name: Entry(**entry) for name, entry in value["files"].items()}
    for name, entry in entries.items():
        hashes = [entry.sha256, *([] if entry.before is None else [entry.before])]
        is_inside = not name.startswith("/") and ".." not in name.split("/")
        if not is_inside or entry.kind not in KINDS or not all(_HASH.fullmatch(one) for one in hashes):
            raise ValueError
    return entries, value["process"]
