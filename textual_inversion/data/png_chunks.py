"""PNG files without what rides in them: a workflow, the settings of another program, a log, a private chunk.

Pillow refuses a whole PNG if a text or a colour profile in it is larger than 1 MiB when decompressed, and keeps what it
does not know, whatever its size. Nothing here needs that, except where a text holds the orientation of the image. So
it is left out before Pillow sees the file, which is not copied for that (PNG specification, third edition, sections
11.2 and 11.3).
"""

import io
import zlib
from bisect import bisect_right
from collections.abc import Callable
from typing import BinaryIO

from textual_inversion.data.image_headers import AsksForTooMuch
from textual_inversion.formats.png_chunks import SIGNATURE, TooManyChunks, chunks

_PIXELS = (b"IDAT", b"fdAT")
_KNOWN = (*_PIXELS, b"IHDR", b"PLTE", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"eXIf", b"acTL", b"fcTL")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
# Keywords of texts in which Pillow looks for the orientation.
_WITH_ORIENTATION = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
_MOST_BYTES = 1 << 20  # of a chunk without pixels, also decompressed; Pillow has the same bound for texts


def without_texts(file: BinaryIO, note: Callable[[str], None] = lambda line: None) -> BinaryIO:
    """The same file if it is no PNG or holds nothing to leave out, else a view that leaves it out; at the beginning.

    Args:
        file: at its beginning; can seek.
        note: called if the colours change with what is left out: if it is the colour profile.

    Raises:
        AsksForTooMuch: it has more chunks than any image.
    """
    found = chunks(file) if file.read(len(SIGNATURE)) == SIGNATURE else ()
    try:
        dropped = [(kind, start, end) for kind, start, end in found if not _is_kept(file, kind, start, end)]
    except TooManyChunks as error:
        raise AsksForTooMuch(str(error)) from error
    size = file.seek(0, 2)
    file.seek(0)
    if any(kind == _PROFILE for kind, _, _ in dropped):
        note("its colour profile is larger than 1 MiB and is left out; the colours are taken for sRGB")
    if not dropped:
        return file
    kept, position = [], 0
    for _, start, end in dropped:
        kept += [(position, start)] if start > position else []
        position = min(end, size)
    return io.BufferedReader(_Parts(file, [*kept, (position, size)]))


class _Parts(io.RawIOBase):
    """Some parts of a file, one after another, as if they were a file.

    Args:
        file: can seek.
        parts: (first byte, byte after the last) of each, ascending.
    """

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]):
        self._file, self._parts, self._position = file, parts, 0
        self._begins = [0]  # of each part in what is read, and the end
        for start, end in parts:
            self._begins.append(self._begins[-1] + end - start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = (0, self._position, self._begins[-1])[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer) -> int:
        index = bisect_right(self._begins, self._position) - 1
        if index >= len(self._parts):
            return 0
        self._file.seek(self._parts[index][0] + self._position - self._begins[index])
        data = self._file.read(min(len(buffer), self._begins[index + 1] - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _is_kept(file: BinaryIO, kind: bytes, start: int, end: int) -> bool:
    if kind in _PIXELS:
        return True
    if end - start > _MOST_BYTES or kind not in (*_KNOWN, *_TEXTS, _PROFILE):
        return False
    if kind in _KNOWN:
        return True
    file.seek(start + 8)
    keyword, _, rest = file.read(end - start - 12).partition(b"\0")
    if kind == b"tEXt":
        return keyword in _WITH_ORIENTATION
    if kind == b"iTXt":  # whether it is compressed, how, language, translated keyword, text
        if keyword not in _WITH_ORIENTATION:
            return False
        text = rest[2:].split(b"\0", 2)[-1]
        return rest[:1] != b"\1" or _decompresses(text)
    return (kind == _PROFILE or keyword in _WITH_ORIENTATION) and _decompresses(rest[1:])


def _decompresses(data: bytes) -> bool:
    """Whether data decompresses to at most `_MOST_BYTES`; damaged data passes, for Pillow to deal with."""
    stream = zlib.decompressobj()
    try:
        stream.decompress(data, _MOST_BYTES)
    except zlib.error:
        return True
    return not stream.unconsumed_tail
