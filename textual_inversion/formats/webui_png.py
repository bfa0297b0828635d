"""Read and write the image of AUTOMATIC1111's web UI that holds an embedding, twice.

    text     a chunk "sd-ti-embedding": base64 of JSON
    pixels   IMAGE between two stripes, each behind a black column of one pixel

Both hold JSON of the dictionary that its .pt files hold, with {"TORCHTENSOR": nested lists} for a tensor. In the pixels
it is compressed by zlib. The lower four bits of its bytes are in the lower four bits of the left stripe, the upper four
in those of the right one, row by row, in the three channels; what remains to the end of a stripe repeats them. They are
masked with the numbers of a linear congruential generator, so that a stripe has no column of zeros. The upper four bits
of the stripes are a pattern for the eye.
"""

import base64
import binascii
import io
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from textual_inversion.formats.arrays import to_float32
from textual_inversion.formats.budget import Budget
from textual_inversion.formats.errors import AsksTooMuch, BrokenFile, NotAnEmbedding, RefusedFile
from textual_inversion.formats.png_chunks import SIGNATURE, TooManyChunks, chunk, chunks, decompressed, text_of
from textual_inversion.system.checked_json import UnusableJson, parse_json

KEYWORD = b"sd-ti-embedding"
MOST_PIXELS = 4 << 20  # of an image that is looked through for stripes; one of 75 vectors at 512 rows has 600 columns
_PIXELS_PER_BYTE = 64  # of a file: stripes hardly compress, so an image of few bytes has none
MOST_JSON = 24 << 20  # bytes; 1024 vectors of 768 numbers take 17 MB
_TENSOR = "TORCHTENSOR"
_PATTERN = 4  # pixels; a checkerboard of this size is the pattern of the stripes
_HIGH = np.array([0x30, 0x50, 0x70, 0x90], np.uint8)  # its shades, none of them black


def is_png(data: memoryview) -> bool:
    """Whether a PNG begins here."""
    return bytes(data[: len(SIGNATURE)]) == SIGNATURE


def read_png(data: memoryview, budget: Budget) -> Any:
    """The dictionary in an image of the web UI, its tensors as arrays.

    Raises:
        NotAnEmbedding: there is none.
        BrokenFile, AsksTooMuch: see `formats.errors`.
    """
    try:
        text = _from_text(data)
    except TooManyChunks as error:
        raise AsksTooMuch(f"asks for too much: it {error}") from error
    text = _from_pixels(data) if text is None else text
    if text is None:
        raise NotAnEmbedding("is an image without an embedding in it")
    if not _is_whole(data):
        raise BrokenFile("is an image that is cut short")
    budget.spend_values(len(text))
    try:
        content = parse_json(text, allows_nan=True)
    except UnusableJson as error:
        raise BrokenFile(f"holds an embedding that {error}") from error
    return _with_arrays(content, budget)


def _is_whole(data: memoryview) -> bool:
    """Whether the chunks of an image go on to its end."""
    file = io.BytesIO(data)
    file.seek(len(SIGNATURE))
    return any(kind == b"IEND" and end <= len(data) for kind, _, end in chunks(file))


def _from_text(data: memoryview) -> bytes | None:
    """The JSON in the text of an image; None where there is none."""
    file = io.BytesIO(data)
    file.seek(len(SIGNATURE))
    for kind, start, end in chunks(file):
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or end > len(data):
            continue
        file.seek(start + 8)
        content = file.read(end - start - 12)
        try:
            text = text_of(kind, content, KEYWORD, 2 * MOST_JSON)
            if text is None:
                continue
            if zlib.crc32(kind + content).to_bytes(4, "big") != file.read(4):
                raise BrokenFile("holds an embedding in its text whose checksum does not match")
            decoded = base64.b64decode(text.strip(), validate=True)
        except (zlib.error, binascii.Error) as error:
            raise BrokenFile("holds an embedding in its text that is damaged") from error
        except ValueError as error:
            raise AsksTooMuch(f"asks for too much: {error} of text") from error
        if len(decoded) > MOST_JSON:
            raise AsksTooMuch(f"asks for too much: {len(decoded)} bytes of JSON")
        return decoded
    return None


def _from_pixels(data: memoryview) -> bytes | None:
    """The JSON in the stripes of an image; None where there are none."""
    nibbles = _stripes(_pixels(data))
    if nibbles is None:
        return None
    low, high = (stripe ^ _mask(stripe.size).reshape(stripe.shape) for stripe in nibbles)
    try:
        return decompressed(((high << 4) | low).tobytes(), MOST_JSON)
    except zlib.error:
        return None  # an image with black columns, as many have
    except ValueError as error:
        raise AsksTooMuch(f"asks for too much: {error} of JSON") from error


def _pixels(data: memoryview) -> np.ndarray:
    """An image as uint8 [H, W, 3]; an empty one if it is damaged, or too large to be one of the web UI."""
    try:
        image = PngImageFile(io.BytesIO(_without_texts(data)))
        if image.width * image.height <= min(MOST_PIXELS, _PIXELS_PER_BYTE * len(data)):
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, zlib.error):
        pass  # of an image that cannot be shown nobody expects an embedding
    return np.empty((0, 0, 3), np.uint8)


def _without_texts(data: memoryview) -> bytes:
    """A PNG with what makes an image of it and nothing else: Pillow would read the rest."""
    file = io.BytesIO(data)
    file.seek(len(SIGNATURE))
    kept = [data[start:end] for kind, start, end in chunks(file) if kind in (b"IHDR", b"PLTE", b"IDAT", b"IEND")]
    return b"".join([SIGNATURE, *kept])


def _stripes(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The lower four bits of the two stripes, uint8 [H, W, 3]; None where there cannot be any."""
    shown = (pixels > 0).all(axis=2)
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if not len(rows):
        return None
    inner = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] & 0x0F
    black = np.flatnonzero(~inner.any(axis=(0, 2)))
    if len(black) < 2:
        return None
    low, high = inner[:, : black[0]], inner[:, black[-1] + 1 :]
    return (low, high) if low.shape == high.shape and low.size else None


def _mask(count: int) -> np.ndarray:
    """`count` numbers below 16: the lower bits of x mod 255, x' = 1664525 x + 1013904223 mod 2^32, from x = 0 on."""
    factor, step, modulus = 1664525, 1013904223, 1 << 32
    states = np.array([step], np.uint64)
    while len(states) < count:  # from n states on, the next n are the first ones n steps further
        states = np.concatenate([states, (states * np.uint64(factor) + np.uint64(step)) % np.uint64(modulus)])
        factor, step = factor * factor % modulus, (factor * step + step) % modulus
    return (states[:count] % 255).astype(np.uint8) & 0x0F


def _with_arrays(content: Any, budget: Budget) -> Any:
    """JSON with an array in place of each tensor; deeper than a few levels there is none."""
    if not isinstance(content, dict):
        return content
    if _TENSOR in content:
        return _array(content[_TENSOR], budget)
    return {
        name: {inner: _with_array(one, budget) for inner, one in value.items()}
        if isinstance(value, dict) and _TENSOR not in value
        else _with_array(value, budget)
        for name, value in content.items()
    }


def _with_array(value: Any, budget: Budget) -> Any:
    return _array(value[_TENSOR], budget) if isinstance(value, dict) and _TENSOR in value else value


def _array(values: Any, budget: Budget) -> np.ndarray:
    """Nested lists of numbers as float32; raises BrokenFile."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BrokenFile("holds a tensor that is no block of numbers") from error
    return to_float32(array, budget)


# ---------------------------------------------------------------------------------------------------------- writing


def png_bytes(content: Mapping[str, Any], image: np.ndarray) -> bytes:
    """A PNG that shows an image and holds a dictionary of arrays, in its text and in its pixels.

    Args:
        content: as the web UI's .pt files have it; float arrays may be one level deeper.
        image: uint8 [H, W, 3].

    Raises:
        RefusedFile: the image is so narrow that the stripes would be too long.
    """
    text = json.dumps(content, default=_as_lists).encode()
    pixels = _with_stripes(image, np.frombuffer(zlib.compress(text, 9), np.uint8))
    height, width, _ = pixels.shape
    if width * height > MOST_PIXELS:
        raise RefusedFile(f"needs an image of {width} x {height} pixels, more than any program reads")
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])  # 8 bits, RGB
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # 0: no filter
    parts = {
        b"IHDR": head,
        b"tEXt": KEYWORD + b"\0" + base64.b64encode(text),
        b"IDAT": zlib.compress(rows.tobytes(), 9),
        b"IEND": b"",
    }
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in parts.items())


def _as_lists(value: Any) -> dict[str, Any]:
    return {_TENSOR: np.asarray(value, np.float64).tolist()}


def _with_stripes(image: np.ndarray, data: np.ndarray) -> np.ndarray:
    """An image between stripes of data, uint8 [H, W, 3]."""
    height = len(image)
    columns = -(-len(data) // (3 * height)) + 1
    filled = np.resize(data, height * columns * 3)
    black = np.zeros((height, 1, 3), np.uint8)
    low, high = (_stripe(part, height, columns) for part in (filled & 0x0F, filled >> 4))
    return np.concatenate([low, black, image, black, high], axis=1)


def _stripe(nibbles: np.ndarray, height: int, columns: int) -> np.ndarray:
    rows, across = np.indices((height, columns)) // _PATTERN
    shades = _HIGH[(rows + 2 * across) % len(_HIGH)]
    return (nibbles ^ _mask(nibbles.size)).reshape(height, columns, 3) | shades[..., None]
