"""The one way in which a file of a user, or of a stranger, is opened for reading.

    read_bytes(path, most)     its bytes
    read_text(path, most)      its text in UTF-8, with or without a byte-order mark
    opened(path, most)         a file object that can seek: for images and weights
    descriptor(path, most)     a file descriptor: for mapping into memory
    sha256(path, most)         the hash of its bytes
    check(path, most)          nothing: for what a library opens by itself

Only regular files are opened. A named pipe would wait for a writer, a device such as /dev/zero never ends, a folder is
no file; links to them are as good as they are. Nothing waits. Each caller states how many bytes such a file has at
most: a caption is no gigabyte, and a sparse file of a terabyte takes no room on a disk. Whatever was refused is an
`UnusableFile`, which is an OSError as well: whoever turns the errors of the system into a message turns this one too.

What the program wrote itself, in this run, is not opened this way. `tests/security/test_reading.py` lists who reads
otherwise, and why.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from textual_inversion.system.errors import TextualInversionError

AnyPath = str | os.PathLike[str]

# Limits in bytes, by what a file is; `models/weight_files.py` has those of a base model.
CAPTION = 1 << 20  # a prompt has at most 75 tokens; a text encoder reads no more than that
PROMPTS = 4 << 20  # templates, prompts of validation images: tens of thousands of lines
SETTINGS = 256 << 10  # a configuration; its parser takes seconds for a megabyte
METADATA = 256 << 20  # captions of a whole data set
RECORD = 64 << 20  # a run.json stays below 1 MiB
IMAGE = 512 << 20  # 40 megapixels of 16 bits in four channels, uncompressed, are 320 MB
WEIGHTS = 1 << 40
_CHUNK = 1 << 16
_PART = 1 << 20  # bytes that are hashed at once

# Windows would end a line of bytes, and a file at Ctrl+Z. A terminal that is opened must not become the process's own.
_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):
    _FLAGS |= getattr(os, _name, 0)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnusableFile(TextualInversionError, OSError):
    """What is there under a name is no regular file, or is larger than such a file may be.

    Attributes:
        strerror: the reason, as part of a sentence.
        filename: the path.
    """

    def __init__(self, path: AnyPath, reason: str):
        super().__init__(errno.EINVAL, reason, os.fspath(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be read ({self.strerror}); give another file"


def descriptor(path: AnyPath, most: int) -> int:
    """A descriptor of a regular file of at most `most` bytes, for reading.

    Raises:
        UnusableFile: it is something else than a regular file, or larger.
        OSError: it is not there, or may not be read.
    """
    _refuse(path, os.stat(path), most)  # before it is opened: that alone rewinds a tape
    number = os.open(path, _FLAGS)
    try:
        _refuse(path, os.fstat(number), most)  # it may be another one by now
        if hasattr(os, "set_blocking"):
            os.set_blocking(number, True)
    except BaseException:
        os.close(number)
        raise
    return number


@contextlib.contextmanager
def opened(path: AnyPath, most: int) -> Iterator[BinaryIO]:
    """A regular file, open for reading, which can seek; raises as `descriptor`."""
    with os.fdopen(descriptor(path, most), "rb") as file:
        yield file


def read_bytes(path: AnyPath, most: int) -> bytes:
    """The contents of a regular file; raises as `descriptor`, also where it grows meanwhile."""
    with opened(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # not `most`, for which room would be taken at once
        while len(content) > size and (part := file.read(_CHUNK)):  # it has grown, or is of /proc and says it is empty
            content += part
            if len(content) > most:
                raise UnusableFile(path, _too_large(len(content), most))
    return content


def read_text(path: AnyPath, most: int) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        UnicodeDecodeError: it is no such text.
        OSError: as `descriptor`.
    """
    text = read_bytes(path, most).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sha256(path: AnyPath, most: int) -> str:
    """SHA-256 of a regular file, in hexadecimal; raises as `descriptor`."""
    digest = hashlib.sha256()
    with opened(path, most) as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def check(path: AnyPath, most: int) -> None:
    """Check a file that a library opens by itself; raises as `descriptor`."""
    os.close(descriptor(path, most))


def _refuse(path: AnyPath, found: os.stat_result, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((kind for test, kind in _KINDS if test(found.st_mode)), "something else")
        raise UnusableFile(path, f"it is {kind}, not a regular file")
    if found.st_size > most:
        raise UnusableFile(path, _too_large(found.st_size, most))


def _too_large(size: int, most: int) -> str:
    return f"it has {size_text(size)}, and at most {size_text(most)} are read of such a file"


def size_text(size: int) -> str:
    """A number of bytes as people write it."""
    for name, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.3g} {name}" if size < 1000 * factor else f"{size // factor:,} {name}"
    return f"{size} bytes"
