"""Curves, images and settings of a run, logged for VisualDL, TensorBoard, Weights & Biases, MLflow or SwanLab.

All of them write beside the training loop and cost it next to nothing. On a full disk, or without a network, they can
stop taking anything, and whoever hands them more data then waits forever. So a thread of ours hands over everything,
one thread for each. If a log can no longer be written, one warning says so; the run neither ends nor waits.

    VisualDL, TensorBoard     files, by a writer in this process (`log_files`)
    the others                their own packages, in a process of their own (`tracker_process`)
"""

import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.system import atomic, log_files, tracker_process, user_files
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.progress import print_line
from textual_inversion.system.reporters import not_installed, wanted
from textual_inversion.system.terminal_text import visible

_FILES: Mapping[str, Callable] = {"visualdl": log_files.visualdl, "tensorboard": log_files.tensorboard}
# Calls that may wait for the writer, and the seconds after which a writer that takes none of them is given up; one that
# sends over a network gets more of them.
_MAX_WAITING = 100
_PATIENCE, _PATIENCE_OF_A_NETWORK = 10.0, 60.0
_TELL = "tell"  # not a method of the writer: an event to set once all calls before it are done


class Tracker:
    """Logs scalars, images and texts by tag and step; without a writer it does nothing.

    Args:
        writer: a writer of VisualDL or tensorboardX, or one with the same methods.
        patience: seconds to wait for a writer that accepts nothing.
        name: of what it is for, as a user gave it; "" for the only log.
    """

    def __init__(self, writer: Any = None, patience: float = _PATIENCE, name: str = ""):
        self._writer, self._patience, self._name = writer, patience, name
        self._waiting: queue.Queue = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._hand_on, args=(writer,), daemon=True)
        if writer is not None:
            self._thread.start()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to the curve `tag`."""
        self._call("add_scalar", _plain(tag), float(value), step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Add one image to the series `tag`."""
        if self._writer is None:
            return
        pixels = np.array(image.convert("RGB"))  # (H, W, 3) uint8, a copy: VisualDL may write into it
        if pixels.max() <= 1:
            pixels[:] = 0  # VisualDL takes values up to 1 for fractions: a nearly black image would turn bright
        self._call("add_image", _plain(tag), pixels, step, dataformats="HWC")

    def text(self, tag: str, text: str, step: int) -> None:
        """Add a text to the series `tag`, such as the prompt of an image."""
        self._call("add_text", _plain(tag), "\n".join(map(visible, text.split("\n"))), step)

    def flush(self) -> None:
        """Return once everything that waits is written, so that it outlives the process."""
        if self._writer is None:
            return
        written = threading.Event()
        self._call("flush")
        self._call(_TELL, written)
        if self._writer is not None and not written.wait(self._patience):
            self._give_up("it takes too long")

    def close(self) -> None:
        """Write everything that still waits, and end; may be called twice."""
        if self._writer is None:
            return
        self._call("close")
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._give_up("it takes too long")
        self._writer = None

    def _call(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._writer is None:
            return
        try:
            self._waiting.put((method, arguments, options), timeout=self._patience)
        except queue.Full:
            self._give_up("it takes too long")

    def _hand_on(self, writer: Any) -> None:
        """Pass the calls on to the writer, one after the other; runs in the thread."""
        method = ""
        while method != "close":
            method, arguments, options = self._waiting.get()
            if method == _TELL:
                arguments[0].set()
                continue
            try:
                getattr(writer, method)(*arguments, **options)
            except Exception as error:  # whatever it is, it only concerns the log
                self._give_up(str(error) or type(error).__name__)
                return

    def _give_up(self, reason: str) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            getattr(writer, "abandon", lambda: None)()
            log = f"the log for {self._name}" if self._name else "the log"
            print_line(f"warning: {log} can no longer be written ({reason}); the run goes on without it", sys.stderr)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Trackers(Tracker):
    """Several logs as one.

    Args:
        trackers: each with a writer of its own.
        figures: is given every scalar too, by `add(step, tag, value)`, and written by `flush()`.
    """

    def __init__(self, trackers: Iterable[Tracker] = (), figures: Any = None):
        super().__init__()
        self._trackers, self._figures = list(trackers), figures

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to the curve `tag` of each."""
        if self._figures is not None:
            self._figures.add(step, tag, float(value))
        for tracker in self._trackers:
            tracker.scalar(tag, value, step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Add one image to the series `tag` of each."""
        for tracker in self._trackers:
            tracker.image(tag, image, step)

    def text(self, tag: str, text: str, step: int) -> None:
        """Add a text to the series `tag` of each."""
        for tracker in self._trackers:
            tracker.text(tag, text, step)

    def flush(self) -> None:
        """Return once everything that waits is written."""
        if self._figures is not None:
            self._figures.flush()
        for tracker in self._trackers:
            tracker.flush()

    def close(self) -> None:
        """Write everything that still waits, and end."""
        if self._figures is not None:
            self._figures.flush()
        for tracker in self._trackers:
            tracker.close()


def open_tracker(
    report_to: str | Sequence[str],
    logdir: str | os.PathLike[str],
    resumed_at: int | None = None,
    settings: Mapping[str, Any] | None = None,
    figures: Any = None,
) -> Tracker:
    """Open logs in `logdir`, which is created if it is missing; among several processes on rank 0 only.

    A resumed run continues the newest log there: of each step, what it logs replaces what was logged before, so that
    no point of a curve is missing or shown twice.

    Args:
        report_to: names of `reporters.PACKAGES`, or "none", which writes nothing.
        resumed_at: the first step that a resumed run logs; None for a new run.
        settings: of the run, for those who show them; nothing secret.
        figures: as of `Trackers`.

    Raises:
        SettingsError: an unknown reporter, one whose package is not installed, or one that cannot begin, such as
            without a login.
        OutputError: the folder cannot be created, or the log that is to be continued is no file.
    """
    names = wanted(report_to)
    opened: list[Tracker] = []
    try:
        if names:
            atomic.make_folder(logdir)
        for name in names:
            opened.append(_opened(name, logdir, resumed_at, settings or {}, shown="" if len(names) == 1 else name))
    except BaseException:
        Trackers(opened).close()
        raise
    return opened[0] if len(opened) == 1 and figures is None else Trackers(opened, figures)


def _opened(
    name: str, logdir: str | os.PathLike[str], resumed_at: int | None, settings: Mapping[str, Any], *, shown: str
) -> Tracker:
    try:
        if name in _FILES:
            tracker = Tracker(_FILES[name](logdir, resumed_at), name=shown)
            if settings and resumed_at is None:
                tracker.text("settings", "\n".join(f"{key}: {value}" for key, value in settings.items()), 0)
            return tracker
        return Tracker(
            tracker_process.open_writer(name, Path(logdir), resumed_at, settings), _PATIENCE_OF_A_NETWORK, name
        )
    except ImportError as error:
        raise SettingsError(not_installed(name)) from error
    except user_files.UnusableFile as error:
        raise OutputError(
            f"{error.filename} cannot be read ({error.strerror}); choose another --logging_dir"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write the log folder {logdir} ({error.strerror}); choose another one") from error


def load(report_to: str | Sequence[str]) -> None:
    """Import the packages of reporters, which takes seconds, and open nothing.

    Raises:
        SettingsError: one is unknown, or is not installed.
    """
    for name in wanted(report_to):
        if name in _FILES:
            log_files.load(name)


def _plain(tag: str) -> str:
    return visible(tag.replace("%", " percent"))  # VisualDL refuses this sign
