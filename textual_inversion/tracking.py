"""Curves and pictures of a run, written for VisualDL or TensorBoard.

Both write in a thread of their own and cost the training loop next to nothing. A log that can no longer be written
(the disk is full, its folder is gone) is said once and does not end the run.
"""

import contextlib
import io
import os
import sys
import time
from typing import Any

import numpy as np
from PIL import Image

from textual_inversion.errors import OutputError, SettingsError

REPORTERS = ("visualdl", "tensorboard", "none")


class Tracker:
    """Takes scalars and pictures by tag and step; without a writer it forgets them."""

    def __init__(self, writer: Any = None):
        self._writer = writer

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

    def close(self) -> None:
        """Write what is still waiting; may be called twice."""
        self._call("close")
        self._writer = None

    def _call(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments, **options)
        except OSError as error:
            print(f"warning: the log can no longer be written ({error}); going on without it", file=sys.stderr)
            self._writer = None

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_tracker(report_to: str, logdir: str | os.PathLike[str]) -> Tracker:
    """Begin a log in `logdir` (made if it is missing); under several processes for the first one only.

    Args:
        report_to: one of `REPORTERS`; "none" writes nothing.

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
        return Tracker(_visualdl(logdir) if report_to == "visualdl" else _tensorboard(logdir))
    except OSError as error:
        raise OutputError(f"cannot write the log folder {logdir} ({error.strerror}); choose another one") from error


def _visualdl(logdir: str | os.PathLike[str]) -> Any:
    try:
        from visualdl import LogWriter
    except ImportError as error:
        raise SettingsError(_not_installed("visualdl", "visualdl")) from error
    # VisualDL shows the last name of a folder. Its own names count in seconds: two runs would share one file.
    name = f"vdlrecords.{time.time_ns()}.log"
    with contextlib.redirect_stdout(io.StringIO()):
        return LogWriter(logdir=os.fspath(logdir), file_name=name)


def _tensorboard(logdir: str | os.PathLike[str]) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise SettingsError(_not_installed("tensorboard", "tensorboardX")) from error
    return SummaryWriter(logdir=os.fspath(logdir))


def _not_installed(reporter: str, package: str) -> str:
    other = "visualdl" if reporter == "tensorboard" else "none"
    return f"--report_to {reporter} needs a package: pip install {package} (or take --report_to {other})"


def _plain(tag: str) -> str:
    return tag.replace("%", " percent")  # VisualDL refuses the sign
