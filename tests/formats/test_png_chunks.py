"""Chunks of PNG files and the texts in them."""

import io
import zlib

import pytest

from textual_inversion.formats.png_chunks import (
    MOST_CHUNKS,
    SIGNATURE,
    TooManyChunks,
    chunk,
    chunks,
    decompressed,
    text_of,
)


def found(data: bytes) -> list[tuple[bytes, int, int]]:
    file = io.BytesIO(data)
    file.seek(len(SIGNATURE))
    return list(chunks(file))


def test_chunks_are_listed_up_to_one_that_is_cut():
    one, other = chunk(b"IHDR", bytes(13)), chunk(b"tEXt", b"a\0b")
    data = SIGNATURE + one + other

    assert found(data) == [(b"IHDR", 8, 33), (b"tEXt", 33, len(data))]
    assert found(data[:-1]) == [(b"IHDR", 8, 33), (b"tEXt", 33, len(data))]
    assert found(SIGNATURE + b"\xff\xff\xff\xffIDAT") == [(b"IDAT", 8, 20 + 0xFFFFFFFF)] and found(SIGNATURE) == []
    with pytest.raises(TooManyChunks, match="has more chunks than any image"):
        found(SIGNATURE + chunk(b"tEXt", b"") * (MOST_CHUNKS + 1))
    assert zlib.crc32(other[4:-4]).to_bytes(4, "big") == other[-4:]


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (b"tEXt", b"key\0value"),
        (b"zTXt", b"key\0\0" + zlib.compress(b"value")),
        (b"iTXt", b"key\0\0\0en\0Key\0value"),
        (b"iTXt", b"key\0\1\0\0\0" + zlib.compress(b"value")),
    ],
)
def test_the_text_under_a_keyword_whatever_its_form(kind, data):
    assert text_of(kind, data, b"key", 100) == b"value"
    assert text_of(kind, data, b"other", 100) is None and text_of(b"IDAT", data, b"key", 100) is None


def test_what_is_compressed_is_bounded_and_checked():
    bomb = zlib.compress(bytes(1 << 20))

    with pytest.raises(ValueError, match="more than 1000 bytes"):
        text_of(b"zTXt", b"key\0\0" + bomb, b"key", 1000)
    for damaged in (b"", bomb[:-4], b"no stream"):
        with pytest.raises(zlib.error):
            decompressed(damaged, 1 << 21)
    assert decompressed(zlib.compress(b"a") + b"what follows", 10) == b"a"
