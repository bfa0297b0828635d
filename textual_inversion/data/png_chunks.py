"""PNG files without the texts that ride in them: a workflow, the settings of another program, a log.

Pillow refuses a whole PNG if a text or a colour profile in it is larger than 1 MiB when decompressed. Nothing here
needs those texts, except where one holds the orientation of the image. So they are left out before Pillow sees the
file (PNG specification, third edition, section 11.3.3).
"""

import zlib
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from textual_inversion.formats.png_chunks import SIGNATURE, chunks

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"
# Keywords of texts in which Pillow looks for the orientation.
_WITH_ORIENTATION = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
_MOST_BYTES = 1 << 20  # of a decompressed text or profile; Pillow has the same bound


def without_texts(file: BinaryIO, note: Callable[[str], None] = lambda line: None) -> BinaryIO:
    """The same file if it is no PNG or holds no such text, else a copy in memory without them; both at the beginning.

    Args:
        file: at its beginning; can seek.
        note: called if the colours change with what is left out: if it is the colour profile.
    """
    found = list(chunks(file)) if file.read(len(SIGNATURE)) == SIGNATURE else []
    dropped = [(kind, start, end) for kind, start, end in found if not _is_kept(file, kind, start, end)]
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
