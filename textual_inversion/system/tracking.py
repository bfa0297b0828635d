"""Curves and images of a run, logged for VisualDL or TensorBoard.

Both write in a thread of their own and cost the training loop next to nothing. On a full disk that thread can end, and
whoever hands it more data then waits forever. So a thread of ours hands over everything. If a log can no longer be
written, one warning says so; the run neither ends nor waits.
"""

import contextlib
import io
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.system import atomic, home, user_files
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.figure_log import FigureLog
from textual_inversion.system.progress import print_line
from textual_inversion.system.terminal_text import visible
from textual_inversion.system.written_files import LOG, of_kind

# Calls that may wait for the writer, and the seconds after which a writer that takes none of them is given up.
_MAX_WAITING = 100
_PATIENCE = 10.0
_TELL = "tell"  # not a method of the writer: an event to set once all calls before it are done


class Tracker:
    """Logs scalars, images and texts by tag and step; without a writer it does nothing.

    Args:
        writer: a writer of VisualDL or tensorboardX.
        patience: seconds to wait for a writer that accepts nothing.
        figures: gets all scalars, too.
    """

    def __init__(self, writer: Any = None, patience: float = _PATIENCE, figures: FigureLog | None = None):
        self._writer, self._patience, self._figures = writer, patience, figures
        self._waiting: queue.Queue = queue.Queue(_MAX_WAITING)
        self._thread = threading.Thread(target=self._hand_on, args=(writer,), daemon=True)
        if writer is not None:
            self._thread.start()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to the curve `tag`."""
        self._call("add_scalar", _plain(tag), float(value), step)
        if self._figures is not None:
            self._figures.add(tag, float(value), step)

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
        if self._figures is not None:
            self._figures.close()
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
        if self._writer is not None:
            self._writer = None
            print_line(f"warning: the log can no longer be written ({reason}); the run goes on without it", sys.stderr)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tracker(report_to: str, logdir: str | os.PathLike[str], resumed_at: int | None = None) -> Tracker:
    """Open a log in `logdir`, which is created if it is missing; among several processes on rank 0 only.

    A resumed run continues the newest log there: of each step, what it logs replaces what was logged before, so that
    no point of a curve is missing or shown twice.

    Args:
        report_to: "visualdl", "tensorboard", or "none", which writes nothing.
        resumed_at: the first step that a resumed run logs; None for a new run.

    Raises:
        SettingsError: an unknown reporter, or one whose package is not installed.
        OutputError: the folder cannot be created, or the log that is to be continued is no file.
    """
    if report_to == "none":
        return Tracker()
    openers = {"visualdl": _visualdl, "tensorboard": _tensorboard}
    if report_to not in openers:
        raise SettingsError(f"--report_to {report_to!r} is unknown; choose one of {', '.join([*openers, 'none'])}")
    try:
        atomic.make_folder(logdir)
        return Tracker(openers[report_to](logdir, resumed_at), figures=FigureLog(logdir, resumed_at))
    except user_files.UnusableFile as error:
        raise OutputError(
            f"{error.filename} cannot be read ({error.strerror}); choose another --logging_dir"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write the log folder {logdir} ({error.strerror}); choose another one") from error


def _visualdl(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    try:
        with home.taking(*home.OF_VISUALDL):
            from visualdl import LogWriter
    except ImportError as error:
        raise SettingsError(_not_installed("visualdl", "visualdl")) from error
    # VisualDL shows the file with the last name of a folder, so a resumed run continues that one. VisualDL's own names
    # count in seconds: two runs could share one file.
    name = f"vdlrecords.{time.time_ns()}.log"
    earlier = sorted(path for path in Path(logdir).glob("vdlrecords.*") if path.is_file() and not path.is_symlink())
    if resumed_at is not None and earlier:
        name = earlier[-1].name
        _keep_records_before(earlier[-1], resumed_at)
    with contextlib.redirect_stdout(io.StringIO()):
        return LogWriter(logdir=os.fspath(logdir), file_name=name)


def _keep_records_before(log: Path, step: int) -> None:
    """Remove what a VisualDL log holds of a step and of later ones, and a last record that was cut off."""
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record
    from visualdl.reader.record_reader import RecordReader
    from visualdl.writer.record_writer import RecordWriter

    user_files.check(log, user_files.WEIGHTS)
    with of_kind(LOG), atomic.replacing(log) as temporary, open(temporary, "wb") as file:
        kept = RecordWriter(file)
        for message in RecordReader(os.fspath(log)).get_all():
            try:
                values = Record.FromString(message).values
            except DecodeError:  # the process ended while it was written
                break
            if values and all(value.id < step for value in values):
                kept.write(message)


def _tensorboard(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise SettingsError(_not_installed("tensorboard", "tensorboardX")) from error
    return _TensorBoardWriter(os.fspath(logdir), resumed_at)


class _TensorBoardWriter:
    """A writer of tensorboardX whose `flush` returns only when everything is on the disk.

    tensorboardX's own flush does not wait for the queue of its thread; closing does. So a flush closes the file, and
    the next point begins another one: TensorBoard reads all files of a folder, in the order of their names.
    tensorboardX also puts an underscore for every blank and sign in a tag, so that two prompts may become one tag.
    TensorBoard itself takes any text, so the tag of an image stays as it is.

    Args:
        resumed_at: the step from which the points of earlier files are replaced; None: none are.
    """

    def __init__(self, logdir: str, resumed_at: int | None):
        self._logdir = logdir
        self._writer = self._open(resumed_at)

    def _open(self, resumed_at: int | None) -> Any:
        from tensorboardX import SummaryWriter

        # Names count in seconds; without a suffix, two files could be one.
        return SummaryWriter(self._logdir, purge_step=resumed_at, filename_suffix=f".{time.time_ns()}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def add_image(self, tag: str, pixels: np.ndarray, step: int, *, dataformats: str) -> None:
        """Add one image (H, W, 3) under its tag as it stands."""
        from tensorboardX import summary

        record = summary.image("image", pixels, dataformats=dataformats)
        record.value[0].tag = tag
        self._writer.file_writer.add_summary(record, step)

    def flush(self) -> None:
        """Return when all points are written."""
        self._writer.close()
        self._writer = self._open(None)


def _not_installed(reporter: str, package: str) -> str:
    other = "visualdl" if reporter == "tensorboard" else "none"
    return f"--report_to {reporter} needs a package: pip install {package} (or take --report_to {other})"


def _plain(tag: str) -> str:
    return visible(tag.replace("%", " percent"))  # VisualDL refuses this sign
