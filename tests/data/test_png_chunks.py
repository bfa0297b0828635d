"""What rides in a PNG beside its pixels: texts and profiles of any size never keep an image from being read."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from textual_inversion.data.images import load_image
from textual_inversion.data.png_chunks import without_texts

LARGE = b"a workflow " * 2_000_000  # 22 MB, 21 KB compressed
PIXELS = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(*chunks: bytes, at_the_end: bool = False) -> bytes:
    """A PNG of `PIXELS` with more chunks, before the pixels or after them."""
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    plain = buffer.getvalue()
    position = plain.index(b"IEND" if at_the_end else b"IDAT") - 4
    return plain[:position] + b"".join(chunks) + plain[position:]


COMPRESSED = zlib.compress(LARGE)
RIDERS = {
    "text": chunk(b"tEXt", b"workflow\0" + LARGE),
    "compressed text": chunk(b"zTXt", b"workflow\0\0" + COMPRESSED),
    "compressed international text": chunk(b"iTXt", b"workflow\0\1\0\0\0" + COMPRESSED),
    "international text": chunk(b"iTXt", b"workflow\0\0\0\0\0" + LARGE),
    "a text called like an orientation": chunk(b"zTXt", b"Raw profile type exif\0\0" + COMPRESSED),
    "metadata called like an orientation": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + COMPRESSED),
    "a colour profile": chunk(b"iCCP", b"sRGB\0\0" + COMPRESSED),
    "many texts": chunk(b"zTXt", b"log\0\0" + zlib.compress(bytes(1_000_000))) * 100,
    "a text without an end": chunk(b"zTXt", b"workflow"),
    "a damaged text": chunk(b"zTXt", b"workflow\0\0damaged"),
    "a private chunk": chunk(b"prVt", LARGE),
}


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("rider", RIDERS)
def test_nothing_that_rides_in_a_png_keeps_it_from_being_read(tmp_path, rider, at_the_end):
    (tmp_path / "a.png").write_bytes(png(RIDERS[rider], at_the_end=at_the_end))

    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), PIXELS)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt"])
def test_an_orientation_in_a_text_is_kept(tmp_path, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes()
    text = b"\nexif\n%8d\n" % len(data) + data.hex().encode() + b"\n"
    content = text if kind == b"tEXt" else b"\0" + zlib.compress(text)
    (tmp_path / "a.png").write_bytes(png(chunk(kind, b"Raw profile type exif\0" + content), RIDERS["text"]))

    np.testing.assert_array_equal(np.asarray(load_image(tmp_path / "a.png")), np.rot90(PIXELS, -1))


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", png()[:40], png(), b"\xff\xd8\xff JPEG"])
def test_a_file_without_texts_is_not_copied(data):
    file = BytesIO(data)

    assert without_texts(file) is file and file.tell() == 0


def test_a_file_that_ends_early_keeps_what_it_has():
    whole = png(RIDERS["text"])

    assert without_texts(BytesIO(whole[:-30])).read() == png()[:-30]
