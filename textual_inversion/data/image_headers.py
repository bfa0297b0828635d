"""What the headers of an image file make Pillow keep, found before Pillow reads them.

A directory of tags (TIFF, and the EXIF and MPF blocks of photos) may point 65,000 times at one megabyte, which Pillow
copies each time; a JPEG may consist of gigabytes of segments before its first pixel, or of thousands of passes over
all pixels. Such a file is small and its image is, too, so that neither size tells. What a file announces is added up
here, and beyond what any camera or program writes it is refused (TIFF 6.0, section 2; CIPA DC-007; ITU T.81, annex B).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_MOST_TAGS = 64 << 20  # bytes of a directory's values; a TIFF may carry the layers of an image editor
_MOST_NUMBERS = 4 << 20  # bytes of those that become Python numbers
_MOST_EXIF = 4 << 20
_MOST_SEGMENTS = 32 << 20  # bytes before the first pixel of a JPEG
_MOST_MARKERS = 10_000
_MOST_JUNK = 1 << 16  # bytes between two markers
_MOST_SCANS = 100  # of a progressive JPEG; libjpeg writes ten
_MOST_WHOLE = 32 << 20  # bytes of a file that Pillow reads into memory as a whole
_MOST_BITMAP_HEADER = 1 << 10
_MOST_EXTENSIONS = 1 << 20  # bytes of comments and the like in a GIF; Pillow appends block to block
_CHUNK = 1 << 20

_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OF_BYTES = (1, 2, 6, 7)  # types whose values stay bytes
_EXIF, _MPF = b"Exif\0\0", b"MPF\0"
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that begin a frame (SOF)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_BARE = {0x01, *range(0xD0, 0xDA)}  # markers without a length


class AsksForTooMuch(Exception):
    """The headers of an image announce more than any image needs; the message says what, as part of a sentence."""


@dataclass(frozen=True)
class JpegHeader:
    """What decides how a JPEG is decoded.

    Attributes:
        has_several_scans: all coefficients are in memory until the last scan has been read.
        coefficients: per pixel, over all components.
    """

    has_several_scans: bool
    coefficients: float


def check(file: BinaryIO) -> None:
    """Look at the headers of a file, which is at its beginning and is left there.

    Raises:
        AsksForTooMuch: they announce more than any image needs.
    """
    head = file.read(18)
    if head.startswith(b"\xff\xd8\xff"):
        jpeg_header(file)
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        tags_of_tiff(file)
    elif head.startswith(b"GIF8"):
        _check_gif(file)
    elif head.startswith(b"BM"):
        if int.from_bytes(head[14:18], "little") > _MOST_BITMAP_HEADER:
            raise AsksForTooMuch("announces a header of far more bytes than any bitmap has")
    elif (
        head[8:12] == b"WEBP" or head[4:8] in (b"ftyp", b"jP  ", b"JXL ") or head.startswith((b"\0\0\1\0", b"\xff\x0a"))
    ):
        if file.seek(0, 2) > _MOST_WHOLE:
            raise AsksForTooMuch(f"is larger than {_MOST_WHOLE >> 20} MiB, which only JPEG, PNG and TIFF may be")
    file.seek(0)


# ------------------------------------------------------------------------------------------------ directories of tags


def tags_of_tiff(file: BinaryIO) -> int:
    """Bytes of the values in the first directory of a TIFF; raises AsksForTooMuch, also for the second one."""
    first, following = _directory(file, 0)
    if following:
        _directory(file, following)
    return first


def is_cheap_exif(exif: bytes) -> bool:
    """Whether the first directory of an EXIF block can be read at little cost."""
    from io import BytesIO

    try:
        return _directory(BytesIO(exif.removeprefix(_EXIF)), 0, _MOST_EXIF)[0] <= _MOST_EXIF
    except AsksForTooMuch:
        return False


def _directory(file: BinaryIO, offset: int, most: int = _MOST_TAGS) -> tuple[int, int]:
    """(bytes of its values, offset of the next one) of a directory; offset 0: the first. Damaged ones have (0, 0)."""
    file.seek(0)
    head = file.read(16)
    order = ">" if head[:1] == b"M" else "<"
    is_big = 43 in head[2:4]
    count, entry, position = ("Q", "HHQ8s", "Q") if is_big else ("H", "HHL4s", "L")
    total = numbers = 0
    try:
        file.seek(offset or struct.unpack_from(order + position, head, 8 if is_big else 4)[0])
        for _ in range(min(_read(file, order + count)[0], 1 << 16)):
            _, kind, number, _ = _read(file, order + entry)
            size = number * _UNIT.get(kind, 0)
            total += size
            numbers += 0 if kind in _OF_BYTES else size
        following = _read(file, order + position)[0]
    except (struct.error, OverflowError, OSError):
        following = 0
    if total > most or numbers > _MOST_NUMBERS:
        raise AsksForTooMuch(f"announces {total / 1e6:.0f} MB beside its pixels")
    return total, following


def _read(file: BinaryIO, form: str) -> tuple:
    return struct.unpack(form, file.read(struct.calcsize(form)))


# --------------------------------------------------------------------------------------------------------------- JPEG


def jpeg_header(file: BinaryIO) -> JpegHeader:
    """Walk over the segments of a JPEG up to its first scan, and count its scans where there are several.

    Raises:
        AsksForTooMuch: segments, EXIF or scans are more than any image needs.
    """
    file.seek(2)
    exif, components, is_progressive = b"", [], False
    for marker, content in _segments(file):
        if content.startswith(_EXIF):
            exif += content[len(_EXIF) :] if exif else content
        elif content.startswith(_MPF) and not is_cheap_exif(content[len(_MPF) :]):
            raise AsksForTooMuch("announces far more than it holds in its MPF block")
        elif marker in _FRAMES:
            components = [byte for byte in content[7::3]]  # the sampling factors of each
            is_progressive = marker in _PROGRESSIVE
        elif marker == _SOS:
            has_several = is_progressive or content[:1] != bytes([len(components)])
            if has_several:
                _count_scans(file)
            break
    else:
        has_several = False
    if not is_cheap_exif(exif):
        raise AsksForTooMuch("announces far more than it holds in its EXIF block")
    return JpegHeader(has_several, _coefficients(components))


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment."""
    total = 0
    for _ in range(_MOST_MARKERS):
        marker = _next_marker(file)
        if marker is None:
            return
        if marker in _BARE:
            continue
        length = int.from_bytes(file.read(2), "big")
        content = file.read(max(0, length - 2))
        total += len(content)
        if total > _MOST_SEGMENTS:
            break
        yield marker, content
    raise AsksForTooMuch("has more headers than any photo")


def _next_marker(file: BinaryIO) -> int | None:
    """The next byte that follows 0xFF and is a marker; None at the end."""
    begin, previous = file.tell(), b""
    while file.tell() - begin <= _MOST_JUNK:
        byte = file.read(1)
        if not byte:
            return None
        if previous == b"\xff" and byte not in (b"\xff", b"\0"):
            return byte[0]
        previous = byte
    raise AsksForTooMuch("has more headers than any photo")


def _count_scans(file: BinaryIO) -> None:
    """Raise AsksForTooMuch if there are too many."""
    scans, last = 1, b""
    read: Callable[[], bytes] = lambda: file.read(_CHUNK)  # noqa: E731
    for part in iter(read, b""):
        # Within a scan a 0xFF is followed by 0 or by the number of a restart.
        scans += (last[-1:] + part).count(b"\xff\xda")
        last = part
    if scans > _MOST_SCANS:
        raise AsksForTooMuch(f"is drawn in {scans} passes over all its pixels, and at most {_MOST_SCANS} are made")


def _coefficients(factors: list[int]) -> float:
    """Per pixel, from the sampling factors of the components: 3 where none is halved, 1.5 where two are both ways."""
    if not factors:
        return 0.0
    pairs = [(factor >> 4 or 1, factor & 15 or 1) for factor in factors]
    across, down = (max(pair[axis] for pair in pairs) for axis in (0, 1))
    return sum(a * d for a, d in pairs) / (across * down)


# ---------------------------------------------------------------------------------------------------------------- GIF


def _check_gif(file: BinaryIO) -> None:
    """Raise AsksForTooMuch for what stands before, and between, the first two images."""
    file.seek(10)
    flags = (file.read(1) or b"\0")[0]
    file.seek(13 + _colours(flags))
    extensions = images = 0
    while images < 2:
        kind = file.read(1)
        if kind == b"!":
            file.read(1)
            extensions += _blocks(file)
        elif kind == b",":
            images += 1
            place = file.read(9)
            file.seek(_colours(place[8] if len(place) == 9 else 0) + 1, 1)
            _blocks(file)
        elif kind in (b"", b";"):
            return
        else:  # Pillow goes over it
            extensions += 1
        if extensions > _MOST_EXTENSIONS:
            raise AsksForTooMuch("has more comments than any image")


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(file: BinaryIO) -> int:
    """Go over the blocks of an image or an extension; how many bytes they have."""
    total = 0
    while (length := (file.read(1) or b"\0")[0]) and (skipped := len(file.read(length))):
        total += skipped
    return total
