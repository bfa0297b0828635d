"""Curves and pictures of a run, written for VisualDL or TensorBoard.

Both write in a thread of their own and cost the training loop next to nothing. On a full disk that thread can end, and
who hands it more waits for ever. So a thread of ours hands it everything, and a log that can no longer be written is
said once and neither ends nor holds up the run.
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

from textual_inversion.system import atomic
from textual_inversion.system.errors import OutputError, SettingsError
from textual_inversion.system.progress import print_line

REPORTERS = ("visualdl", "tensorboard", "none")


# What may wait for the writer, and the seconds after which a writer that takes none of it is given up.
_MOST_WAITING = 100
_PATIENCE = 10.0
_TELL = "tell"  # no call of the writer's: an event to set when all before it is done


class Tracker:
    """Takes scalars, pictures and texts by tag and step; without a writer it forgets them.

    Args:
        writer: a writer of VisualDL or tensorboardX.
        patience: seconds to wait for it where it takes nothing.
    """

    def __init__(self, writer: Any = None, patience: float = _PATIENCE):
        self._writer, self._patience = writer, patience
        self._waiting: queue.Queue = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._hand_on, args=(writer,), daemon=True)
        if writer is not None:
            self._thread.start()

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add one point to the curve `tag`."""
        self._call("add_scalar", _plain(tag), float(value), step)

    def image(self, tag: str, image: Image.Image, step: int) -> None:
        """Add one picture to the row `tag`."""
        if self._writer is None:
            return
        pixels = np.array(image.convert("RGB"))  # (H, W, 3) uint8, a copy: VisualDL may write into it
        if pixels.max() <= 1:
            pixels[:] = 0  # VisualDL takes values up to 1 for fractions: a nearly black picture would turn bright
        self._call("add_image", _plain(tag), pixels, step, dataformats="HWC")

    def text(self, tag: str, text: str, step: int) -> None:
        """Add a text to the row `tag`, such as what a picture was drawn from."""
        self._call("add_text", _plain(tag), text, step)

    def flush(self) -> None:
        """Return when all that is waiting is written, so that it outlives the process."""
        if self._writer is None:
            return
        written = threading.Event()
        self._call("flush")
        self._call(_TELL, written)
        if self._writer is not None and not written.wait(self._patience):
            self._give_up("it takes too long")

    def close(self) -> None:
        """Write what is still waiting; may be called twice."""
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
        """Hand the writer one call after the other; the thread's work."""
        method = ""
        while method != "close":
            method, arguments, options = self._waiting.get()
            if method == _TELL:
                arguments[0].set()
                continue
            try:
                getattr(writer, method)(*arguments, **options)
            except Exception as error:  # whatever it is, it is only the log's
                self._give_up(str(error) or type(error).__name__)
                return

    def _give_up(self, reason: str) -> None:
        if self._writer is not None:
            self._writer = None
            print_line(f"warning: the log can no longer be written ({reason}); going on without it", sys.stderr)

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tracker(report_to: str, logdir: str | os.PathLike[str], resumed_at: int | None = None) -> Tracker:
    """Begin a log in `logdir` (made if it is missing); under several processes for the first one only.

    Args:
        report_to: one of `REPORTERS`; "none" writes nothing.
        resumed_at: go on with the newest log there, and forget what it holds of this step and later ones.

    Raises:
        SettingsError: an unknown reporter, or one whose package is not installed.
        OutputError: the folder cannot be made.
    """
    if report_to not in REPORTERS:
        raise SettingsError(f"--report_to {report_to!r} is unknown; choose one of {', '.join(REPORTERS)}")
    if report_to == "none":
        return Tracker()
    try:
        os.makedirs(logdir, exist_ok=True)
        return Tracker((_visualdl if report_to == "visualdl" else _tensorboard)(logdir, resumed_at))
    except OSError as error:
        raise OutputError(f"cannot write the log folder {logdir} ({error.strerror}); choose another one") from error


def _visualdl(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise SettingsError(_not_installed("visualdl", "visualdl")) from error
    # VisualDL shows the last name of a folder. Its own names count in seconds: two runs would share one file.
    name = f"vdlrecords.{time.time_ns()}.log"
    earlier = sorted(Path(logdir).glob("vdlrecords.*"))
    if resumed_at is not None and earlier:
        name = earlier[-1].name
        atomic.write_bytes(earlier[-1], _records_before(earlier[-1].read_bytes(), resumed_at))
    with contextlib.redirect_stdout(io.StringIO()):
        return LogWriter(logdir=os.fspath(logdir), file_name=name)


def _records_before(log: bytes, step: int) -> bytes:
    """The records of a VisualDL log from before a step: each an unsigned length of 8 bytes and a message.

    What comes after the last whole record was cut off when its process ended.
    """
    from google.protobuf.message import DecodeError
    from visualdl.proto.record_pb2 import Record

    kept, position = [], 0
    while position + 8 <= len(log):
        end = position + 8 + int.from_bytes(log[position : position + 8], "little")
        try:
            record = Record.FromString(log[position + 8 : end]) if end <= len(log) else None
        except DecodeError:
            record = None
        if record is None:
            break
        if all(value.id < step for value in record.values):
            kept.append(log[position:end])
        position = end
    return b"".join(kept)


def _tensorboard(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise SettingsError(_not_installed("tensorboard", "tensorboardX")) from error
    # TensorBoard reads all files of a folder; a new one can take back what earlier ones say from a step on.
    return SummaryWriter(logdir=os.fspath(logdir), purge_step=resumed_at)


def _not_installed(reporter: str, package: str) -> str:
    other = "visualdl" if reporter == "tensorboard" else "none"
    return f"--report_to {reporter} needs a package: pip install {package} (or take --report_to {other})"


def _plain(tag: str) -> str:
    return tag.replace("%", " percent")  # VisualDL refuses the sign
