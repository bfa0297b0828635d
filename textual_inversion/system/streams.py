"""Standard input, output and error of a command: nothing that is printed may cost what was learned.

A stream may be closed from the start (`>&-`), its disk may be full, its terminal gone, or the reader of its pipe
(`| head`). Whatever is printed then is dropped, by this program and by the libraries alike, and nothing is raised.
Only the loss of a pipe's reader is reported, to whoever listens: it is the way in which a shell asks a program to end.

    prepare()           at the very start of a command
    print_error(line)   on stderr, or on stdout if stderr cannot take it
    print_traceback     of a bug: what Python would print, without what a terminal would obey
    reader_is_gone()    tell the listeners
"""

import contextlib
import io
import os
import select
import sys
import traceback
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TextIO

from textual_inversion.system.terminal_text import printed

_listeners: list[Callable[[], None]] = []


class _Output(io.FileIO):
    """The file of an output stream, which takes everything and drops what the system refuses.

    Attributes:
        is_lost: whether nothing can be written to it any more.
        took_all: whether the system took what was written last.
    """

    def __init__(self, descriptor: int, *, is_lost: bool):
        super().__init__(descriptor, "wb", closefd=False)
        self.is_lost, self.took_all = is_lost, not is_lost

    def write(self, data) -> int:
        """Write all of it, or drop what is left of it; returns its length."""
        rest = memoryview(data).cast("B")
        size, self.took_all = len(rest), False
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # another program made the pipe non-blocking, and it is full
                    select.select([], [self], [])
                rest = rest[written or 0 :]
            self.took_all = not self.is_lost
        except BrokenPipeError:
            _open_nothing(self.fileno())
            was_lost, self.is_lost = self.is_lost, True
            if not was_lost:
                reader_is_gone()
        except OSError:
            pass  # a full disk may have room for the next line
        return size


def prepare() -> None:
    """Open closed streams on the null device, and let nothing that is printed raise an error.

    Otherwise the next file that is opened, perhaps a checkpoint, would get the number of standard output, and what is
    printed would go into it. Streams that a test or a notebook has put in place of the process's own stay.
    """
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:
        _open_nothing(number)
    if sys.stdin is None and 0 in closed:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _forgiving(sys.stdout, 1, is_lost=1 in closed)
    sys.stderr = sys.__stderr__ = _forgiving(sys.stderr, 2, is_lost=2 in closed)
    sys.excepthook = print_traceback


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _open_nothing(number: int) -> None:
    """Let a descriptor, and the children that inherit it, lead nowhere."""
    with contextlib.suppress(OSError):  # a container may lack the null device
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing == number:
            os.set_inheritable(number, True)
            return
        os.dup2(nothing, number)
        os.close(nothing)


def _forgiving(stream: TextIO | None, number: int, *, is_lost: bool) -> TextIO | None:
    """A stream like this one that drops what it cannot write. Letters that its encoding lacks become escapes."""
    if stream is not None and not _is_own(stream, number):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    if stream is None and not _is_open(number):
        return None
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    is_unbuffered = stream is not None and stream.write_through
    raw = _Output(number, is_lost=is_lost)
    return io.TextIOWrapper(
        raw if is_unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else None,
        errors="backslashreplace",
        line_buffering=stream is None or stream.line_buffering,
        write_through=is_unbuffered,
    )


def _is_own(stream: TextIO, number: int) -> bool:
    """Whether a stream is the one that Python made for the process's descriptor."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == number and _output_of(stream) is None
    except (OSError, ValueError):
        return False


def _output_of(stream: TextIO) -> _Output | None:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, _Output) else None


def print_error(line: str) -> None:
    """Print a line on stderr; on stdout where stderr is closed, full or without a reader.

    It may hold text from outside: it is shown on one line, without what a terminal would obey.
    """
    for stream in (sys.stderr, sys.stdout):
        if stream is not None and _takes(stream, line):
            return


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an exception that nothing caught, as `sys.excepthook`: its message may quote a file."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    for part in traceback.format_exception(kind, error, trace):
        for line in part.rstrip("\n").split("\n"):
            any(stream is not None and _takes(stream, line, is_aligned=True) for stream in (sys.stderr, sys.stdout))


def _takes(stream: TextIO, line: str, *, is_aligned: bool = False) -> bool:
    try:
        print(printed(line, is_aligned=is_aligned), file=stream, flush=True)
    except (OSError, ValueError):  # ValueError: it was closed
        return False
    output = _output_of(stream)
    return output is None or output.took_all


# -------------------------------------------------------------------------------------------------- a reader that left


@contextlib.contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Inside the block, call the listener when the reader of a pipe has left, in the thread that writes to it."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def reader_is_gone() -> None:
    """Tell the listeners that nobody reads the output any more."""
    for listener in tuple(_listeners):
        listener()
