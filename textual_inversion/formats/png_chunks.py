"""The chunks of a PNG file, within bounds (PNG specification, third edition, section 5.3)."""

import zlib
from collections.abc import Iterator
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 1 << 17  # an image of 40 megapixels in pieces of 8 KiB has 20,000


class CutStream(zlib.error):
    """Compressed data that ends too early."""


class TooManyChunks(ValueError):
    """A PNG has more chunks than any image."""


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(type, first byte, byte after the last) of each chunk from the file's position on, which must be one's.

    The end of one that was cut off is beyond the file's.

    Raises:
        TooManyChunks: there are more than MOST_CHUNKS.
    """
    position, size = file.tell(), file.seek(0, 2)
    for _ in range(MOST_CHUNKS):
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return
        end = position + 12 + int.from_bytes(header[:4], "big")  # length, type and checksum take 12 bytes
        yield header[4:], position, end
        if end > size:
            return
        position = end
    raise TooManyChunks("has more chunks than any image")


def chunk(kind: bytes, data: bytes) -> bytes:
    """The bytes of one chunk."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def text_of(kind: bytes, data: bytes, keyword: bytes, most: int) -> bytes | None:
    """The text under a keyword in the data of a tEXt, zTXt or iTXt chunk; None where the chunk holds no such text.

    Args:
        most: bytes that a compressed text may have.

    Raises:
        zlib.error: the compressed text is damaged.
        ValueError: it is longer than `most`.
    """
    found, _, rest = data.partition(b"\0")
    if found != keyword or kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return decompressed(rest[1:], most)
    text = rest[2:].split(b"\0", 2)[-1]  # after whether it is compressed, how, language, translated keyword
    return decompressed(text, most) if rest[:1] == b"\1" else text


def decompressed(data: bytes, most: int) -> bytes:
    """Data that zlib compressed, whatever follows it; raises zlib.error, and ValueError for more than `most` bytes."""
    stream = zlib.decompressobj()
    text = stream.decompress(data, most)
    if stream.unconsumed_tail:
        raise ValueError(f"more than {most} bytes")
    if not stream.eof:
        raise CutStream("cut short")
    return text
