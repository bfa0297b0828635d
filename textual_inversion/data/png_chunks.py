"""PNG files without the texts that ride in them: a workflow, the settings of another program, a log.

Pillow refuses a whole PNG if a text or a colour profile in it is larger than 1 MiB when decompressed. Nothing here
needs those texts, except where one holds the orientation of the image. So they are left out before Pillow sees the
file (PNG specification, third edition, section 11.3.3).
"""

import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
# Keywords of texts in which Pillow looks for the orientation.
_WITH_ORIENTATION = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
_MOST_BYTES = 1 << 20  # of a decompressed text or profile; Pillow has the same bound
_MOST_CHUNKS = 1 << 17  # an image of 128 megapixels in pieces of 8 KiB has 48,000


def without_texts(file: BinaryIO, note: Callable[[str], None] = lambda line: None) -> BinaryIO:
    """The same file if it is no PNG or holds no such text, else a copy in memory without them; both at the beginning.

    Args:
        file: at its beginning; can seek.
        note: called if the colours change with what is left out: if it is the colour profile.
    """
    chunks = list(_chunks(file)) if file.read(len(_SIGNATURE)) == _SIGNATURE else []
    dropped = [(kind, start, end) for kind, start, end in chunks if not _is_kept(file, kind, start, end)]
    file.seek(0)
    if any(kind == _PROFILE for kind, _, _ in dropped):
        note("its colour profile is larger than 1 MiB and is left out; the colours are taken for sRGB")
    if not dropped:
        return file
    copy = BytesIO()
    for _, start, end in dropped:
        copy.write(file.read(start - file.tell()))
        file.seek(end)
    copy.write(file.read())
    copy.seek(0)
    return copy


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, byte after the last) of each whole chunk."""
    position, size = file.tell(), file.seek(0, 2)
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        header = file.read(8)
        end = position + 12 + int.from_bytes(header[:4], "big")  # length, type and checksum take 12 bytes
        if len(header) < 8 or end > size:
            return
        yield header[4:], position, end
        position = end


def _is_kept(file: BinaryIO, kind: bytes, start: int, end: int) -> bool:
    if kind not in (*_TEXTS, _PROFILE):
        return True
    if end - start > _MOST_BYTES:
        return False
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
