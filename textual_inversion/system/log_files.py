"""The writers of logs that lie in files alone: for VisualDL, and for TensorBoard.

Each has `add_scalar`, `add_image`, `add_text`, `flush` and `close`. Both write in a thread of their own.
"""

import contextlib
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from textual_inversion.system import atomic, home, user_files
from textual_inversion.system.written_files import LOG, of_kind


def load(reporter: str) -> None:
    """Import the package of a writer, "visualdl" or "tensorboard"; raises ImportError where it is not installed."""
    if reporter == "visualdl":
        _visualdl_writer()
    else:
        import tensorboardX  # noqa: F401


def _visualdl_writer() -> Any:
    with home.taking(*home.OF_VISUALDL):
        from visualdl import LogWriter
    return LogWriter


def visualdl(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    """A writer for VisualDL; a resumed run continues the newest log, without what it holds from that step on.

    Raises:
        ImportError: the package is not installed.
        UnusableFile: the log that is to be continued is no file.
    """
    log_writer = _visualdl_writer()
    # VisualDL shows the file with the last name of a folder, so a resumed run continues that one. VisualDL's own names
    # count in seconds: two runs could share one file.
    name = f"vdlrecords.{time.time_ns()}.log"
    earlier = sorted(path for path in Path(logdir).glob("vdlrecords.*") if path.is_file() and not path.is_symlink())
    if resumed_at is not None and earlier:
        name = earlier[-1].name
        _keep_records_before(earlier[-1], resumed_at)
    with contextlib.redirect_stdout(io.StringIO()):
        return log_writer(logdir=os.fspath(logdir), file_name=name)


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


def tensorboard(logdir: str | os.PathLike[str], resumed_at: int | None) -> Any:
    """A writer for TensorBoard; raises ImportError where tensorboardX is not installed."""
    import tensorboardX  # noqa: F401

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
