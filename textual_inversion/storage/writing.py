"""A folder that stands for an address, and is uploaded in the background while a run writes into it.

Nothing that a run does waits for the service. If it cannot be reached, that is said once, and tried again until it can.
When the command ends it waits for what is still to be uploaded, as long as something goes on; then it names what is
missing. The folder stays, so the next command that writes to the address uploads the rest first.
"""

import atexit
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from textual_inversion.storage.client import Client
from textual_inversion.storage.fetching import WRITER, below, fetch
from textual_inversion.storage.mirror import WRITE, Mirror, State
from textual_inversion.storage.units import SUMS, checkpoint_of
from textual_inversion.storage.upload import Pace, Pass, Taken, waiting, writer
from textual_inversion.system import atomic, signals, watchers
from textual_inversion.system.addresses import Address
from textual_inversion.system.errors import OutputError, SettingsError, StorageError, at_end
from textual_inversion.system.progress import print_note

WAIT = "TEXTUAL_INVERSION_UPLOAD_WAIT"
_WAIT_SECONDS = 120.0  # without any byte that goes on, after the command has ended
_LOOK_SECONDS = 5.0  # between two looks at what libraries or other processes write
_SETTLE_SECONDS = 0.2  # what is written together is uploaded together
_LONGEST_PAUSE, _LONGEST_PAUSE_AT_END = 60.0, 2.0
_SIGNAL_SECONDS = 20.0  # that a wait goes on after SIGTERM; a launcher ends its processes after 30
_LISTED = 5  # names in a message
_written: dict[Address, "WrittenFolder"] = {}


def written_folder(address: Address, *, names: Callable[[str], bool] = lambda name: True, is_main: bool = True) -> Path:
    """The folder that stands for an address, as it is there now; from here on what is written into it is uploaded.

    Args:
        names: which of the files there are wanted here; none of the others is touched.
        is_main: this process speaks, and brings the folder up to date; others of the same start upload at their end.

    Raises:
        StorageError: the address cannot be read or written.
        SettingsError: the environment names a wait that is none.
    """
    if address in _written:
        return _written[address].begin(names)
    _wait_seconds()  # refuses a wrong one before anything begins
    new = WrittenFolder(address, is_main=is_main)
    folder = new.begin(names)
    if not _written:
        atexit.register(_at_exit)
    _written[address] = new
    at_end(new.finish)
    return folder


def folder_of(address: Address) -> Path:
    """The folder that stands for an address, for a command that writes nothing; raises StorageError."""
    Client(address).listed(address.key)
    return Mirror(address, WRITE).make()


def within(address: Address) -> Path | None:
    """The path below a written folder that stands for an address inside it; None where there is none."""
    for top, written in _written.items():
        inside = address.key.removeprefix(top.key).lstrip("/") if top.key else address.key
        is_below = (address.scheme, address.bucket, address.key) == (top.scheme, top.bucket, top.key_of(inside))
        if inside and is_below and (path := written.folder / inside).exists():
            return path
    return None


def _at_exit() -> None:
    """Finish what no command has finished: in a notebook, or after a fault of the program."""
    for one in list(_written.values()):
        try:
            one.finish()
        except (StorageError, OutputError) as error:
            print_note(f"warning: {error}")


class WrittenFolder:
    """Uploads a folder.

    Attributes:
        folder: which stands for the address.
        tries: how often an upload was begun.
    """

    def __init__(self, address: Address, *, is_main: bool):
        self._mirror, self._client, self._is_main = Mirror(address, WRITE), Client(address), is_main
        self.folder, self.tries = self._mirror.folder, 0
        self._wake, self._ending, self._given_up = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._watching = contextlib.ExitStack()
        self._went_at, self._trouble, self._told = time.monotonic(), "", ""
        self._number: int | None = None  # of the folder itself, which another one of its name has not
        self._is_finished, self._pace = False, Pace()

    # ------------------------------------------------------------------------------------------------------- begin

    def begin(self, names: Callable[[str], bool]) -> Path:
        """Bring the folder up to date, and begin to upload; may be called again for other files."""
        if not self._is_main:
            return self._mirror.make()
        with self._mirror.locked():
            note = self._bring(names)
        if note:
            print_note(note)
        if self._thread is None:
            self._watching.enter_context(watchers.watched(self))
            self._number = self.folder.stat().st_ino
            self._start()
        return self.folder

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="upload", daemon=True)
        with signals.blocked():  # the main thread takes them
            self._thread.start()

    def _bring(self, names: Callable[[str], bool]) -> str:
        """Bring the folder up to date with the address, and sign it; returns what is to be said."""
        mirror, client, note = self._mirror, self._client, ""
        listed = client.listed(mirror.address.key)
        found = {name: one for name, one in below(mirror.address, listed).items() if names(name)}
        found, torn = _without_torn(found)
        is_here, state = mirror.folder.is_dir() and bool(mirror.scan()), mirror.state()
        mirror.make()
        if not is_here:
            state = State(mirror.state().mirror)
        if writer(client, mirror) != state.mirror:
            note = self._follow(state, found, names)
        gone = [name for name in found if not os.path.lexists(mirror.folder / name)]
        fetch(client, mirror, state, gone, found)
        client.put(mirror.address.key_of(WRITER), state.mirror.encode())
        mirror.save(state)
        return "; ".join(filter(None, (note, torn)))

    def _follow(self, state: State, found: Mapping, names: Callable[[str], bool]) -> str:
        """Make the folder what another machine has made of the address; returns what is to be said."""
        mirror, note = self._mirror, ""
        if waiting(mirror, state):
            aside = mirror.set_aside()
            note = (
                f"{mirror.address} was written by another machine since; what was not uploaded from here is in {aside}"
            )
            for name in list(state.stamps):
                state.forget(name)
            mirror.make()
        for name in [name for name in mirror.scan() if names(name) and name not in found]:
            state.forget(name)
            atomic.remove_file(mirror.folder / name)
        fetch(self._client, mirror, state, found, found)
        kept = {parent for name in mirror.scan() for parent in (mirror.folder / name).parents}
        for folder in [path for path in mirror.folder.iterdir() if path.is_dir() and path not in kept]:
            atomic.remove_folder(folder)
        mirror.prune()
        return note

    # ------------------------------------------------------------------------------------------------ in the background

    def _work(self) -> None:
        pause = 0.0
        while not self._given_up.is_set():
            self._wake.wait(pause or _LOOK_SECONDS)
            is_ending = self._ending.is_set()
            self._wake.clear()
            if not is_ending:
                time.sleep(_SETTLE_SECONDS)
            try:
                self._upload()
                pause = 0.0
                self._say_well()
                if is_ending and not self.missing():
                    return
                pause = _SETTLE_SECONDS if is_ending else 0.0
            except Taken as error:
                self._say(error)
                return
            except (StorageError, OutputError, OSError) as error:
                self._say(error)
                longest = _LONGEST_PAUSE_AT_END if self._ending.is_set() else _LONGEST_PAUSE
                pause = min(longest, max(1.0, 2 * pause))
                self._rest(pause)

    def _rest(self, seconds: float) -> None:
        """Wait before the next try; what is written meanwhile does not end it, the end of the command does."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and not (self._ending.is_set() and seconds > _LONGEST_PAUSE_AT_END):
            time.sleep(0.1)
        self._wake.set()

    def _upload(self) -> None:
        if self._given_up.is_set():  # what is missing was named, and is another command's business
            return
        self.tries += 1
        with self._mirror.locked():
            is_same = self.folder.is_dir() and self.folder.stat().st_ino == self._number
            pace = None if self._ending.is_set() else self._pace
            Pass(self._client, self._mirror, self._mirror.state(), self._went, may_remove=is_same, pace=pace).run()

    def _went(self, _size: int) -> None:
        self._went_at = time.monotonic()

    def _say(self, error: Exception) -> None:
        self._trouble = str(error)
        if self._told != self._trouble:
            self._told = self._trouble
            count = len(self.missing())
            waits = f"{count} file{'s wait' if count != 1 else ' waits'} here"
            what = "it is tried again" if not isinstance(error, Taken) else "nothing more is uploaded from here"
            reason = self._trouble.partition(";")[0]
            print_note(f"{reason}; the command goes on, {waits}, and {what}")

    def _say_well(self) -> None:
        if self._told:
            print_note(f"{self._mirror.address} can be reached again; what waited is uploaded")
        self._trouble = self._told = ""

    # ------------------------------------------------------------------------------------------------------------ end

    def missing(self) -> list[str]:
        """The files that are not at the address as they are here."""
        return waiting(self._mirror, self._mirror.state())

    def finish(self) -> None:
        """Wait until all is uploaded, as long as something goes on.

        Raises:
            StorageError: something is missing at the address; it says what.
        """
        if self._is_finished:
            return
        self._is_finished = True
        _written.pop(self._mirror.address, None)  # a later command of this process begins anew
        if not self._is_main:
            self._start()  # what this process wrote last, where the main process of its start is on this machine
        self._went_at = time.monotonic()
        self._ending.set()
        self._wake.set()
        try:
            with _told_to_end() as told:
                while self._thread.is_alive() and not self._is_late(told):
                    self._thread.join(0.1)
            stopped = f"stopped by {signal.Signals(told[0][0]).name}" if told and self._thread.is_alive() else ""
        except KeyboardInterrupt:
            stopped = "the wait was interrupted"
        finally:
            self._given_up.set()
            self._watching.close()
        self._check_all_there(stopped)

    def _is_late(self, told: list[tuple[int, float]]) -> bool:
        """Whether to wait no longer."""
        now = time.monotonic()
        return now - self._went_at >= _wait_seconds() or (bool(told) and now - told[0][1] >= _SIGNAL_SECONDS)

    def _check_all_there(self, stopped: str) -> None:
        missing = self.missing()
        if not missing:
            return
        shown = ", ".join(missing[:_LISTED]) + (f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else "")
        reason = stopped or self._trouble.partition(";")[0] or f"nothing went on for {_wait_seconds():g} s"
        raise StorageError(
            f"{len(missing)} file(s) are missing at {self._mirror.address}: {shown} ({reason}); they are kept in "
            f"{self.folder.parent}, and the next command that writes to that address uploads them",
            is_lasting=False,
        )

    # ----------------------------------------------------------------------------------- what `atomic` tells a watcher

    def will_begin(self, target: Path) -> None:
        """Nothing: a file is uploaded when it is complete."""

    def will_write(self, files: Mapping[Path, Path]) -> None:
        """Nothing: it has no name yet."""

    def may_replace(self, folder: Path, names: Container[str]) -> None:
        """Everything may be."""

    def may_remove(self, path: Path) -> None:
        """Everything may be."""

    def removed(self, path: Path) -> None:
        """Look soon."""
        self._wake.set()

    def written(self, target: Path) -> None:
        """Look soon."""
        self._wake.set()


@contextlib.contextmanager
def _told_to_end() -> Iterator[list[tuple[int, float]]]:
    """Note SIGTERM and SIGHUP inside the block, each with its time: what waits is worth some seconds more.

    One that is ignored stays so: the command was told before.
    """
    told: list[tuple[int, float]] = []
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    before = {number: signal.signal(number, lambda n, _: told.append((n, time.monotonic()))) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _without_torn(found: Mapping) -> tuple[dict, str]:
    """What lies at an address without the checkpoints that are not complete, and what is to be said of them."""
    units = {name: checkpoint_of(name) for name in found}
    torn = {unit for unit in units.values() if unit and f"{unit}/{SUMS}" not in found}
    kept = {name: one for name, one in found.items() if units[name] not in torn}
    return kept, f"{', '.join(sorted(torn)[:_LISTED])}: not completely uploaded, so passed over" if torn else ""


def _wait_seconds() -> float:
    """How long to wait at the end; raises SettingsError for what is no number."""
    text = os.environ.get(WAIT, "").strip()
    try:
        seconds = float(text) if text else _WAIT_SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e6:
        raise SettingsError(f"{WAIT} should be a number of seconds, not {text[:40]!r}; unset it or correct it")
    return seconds
