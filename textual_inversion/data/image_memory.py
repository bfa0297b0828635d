"""How much memory an image takes while it is read, which its header tells, and at what scale it is read therefore.

Reading an image takes at most `MOST_BYTES`, whatever its kind. What counts is what the decoder keeps beside the pixels,
the decoded pixels, and the second copy that a change of colours or an EXIF rotation makes:

- A JPEG that would take more is decoded at 1/2, 1/4 or 1/8 of its width and height, straight from its coefficients.
- Any other image is decoded as a whole, one pixel in 1, 2 or 4 bytes by its mode, and what would take more in the next
  step is averaged over squares of 2x2 to 4x4 pixels on its way to RGB.
- What cannot even be decoded in that much memory is refused, with one exception: the formats of phones (HEIC, AVIF,
  WebP and the like) keep several copies of an image, and such an image of up to `PHOTO_PIXELS` may take `PHOTO_BYTES`.

Ordinary photos are below all that, and are read as they are. Some decoders are written in Python and take microseconds
for a pixel; of what they read, `_SLOW_PIXELS` are the limit.
"""

import math
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from textual_inversion.data import image_headers

MOST_BYTES = 168_000_000  # with all else that a run holds meanwhile, below 200 MB
PHOTO_PIXELS, PHOTO_BYTES = 25_000_000, 520_000_000  # a phone's photo has 12 or 24 megapixels
MAX_PIXELS = 128_000_000  # a 108-megapixel phone photo passes
MIN_SIDE = 8  # pixels; the VAE encodes 8x8 pixels as one latent

_RGB = 4  # bytes of a pixel in Pillow's mode "RGB"
_BYTES = {"1": 1, "L": 1, "P": 1}
_DECODER_SCALES = (1, 2, 4, 8)  # of libjpeg, as Pillow uses it
_FACTORS = (1, 2, 3, 4)  # 4x4 pixels that become one leave 2.5 megapixels of the largest images
_SLOW_PIXELS = 2_000_000
_SLOW = {"ppm", "ppm_plain", "dds_rgb", "bmp_rle"}
# What decoders keep for each pixel beside the decoded image, in bytes, measured with Pillow 13; by the codec or, where
# that does not tell, by the format.
_KEPT = {
    "raw": 0.0, "zip": 0.0, "jpeg": 0.0, "gif": 1.0, "pcx": 0.0, "tga_rle": 0.0, "bcn": 0.0, "bmp_rle": 4.0,
    "ppm": 8.0, "ppm_plain": 10.0, "dds_rgb": 5.0, "qoi": 4.0, "libtiff": 0.0, "SGI": 6.0, "ICO": 4.0, "WEBP": 12.0,
    "AVIF": 9.0,
}  # fmt: skip
_OF_PHONES = ("HEIF", "AVIF", "WEBP", "JXL", "JPEG2000")
_READ_WHOLE = ("ICO", "WEBP", "AVIF")
_KEPT_OF_OTHERS = 16.0  # HEIC, JPEG XL; whoever reads them, whatever they keep
_PER_BAND_OF_JPEG2000 = 5.5
_WIDTH, _LENGTH, _BITS, _ROWS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 258, 278, 322, 323  # tags of a TIFF


class TooLarge(Exception):
    """An image cannot be read in the memory that it may take; the message is what is said of it, without its path."""


@dataclass(frozen=True)
class Reading:
    """How an image is read.

    Attributes:
        scale: the decoder divides width and height by this; 1 for all but JPEG.
        factor: squares of so many pixels along a side are averaged after that.
        peak: bytes that are taken meanwhile.
    """

    scale: int
    factor: int
    peak: int

    @property
    def is_reduced(self) -> bool:
        """Whether fewer pixels are read than are there."""
        return self.scale * self.factor > 1


def plan(image: Image.Image, file: BinaryIO, *, is_upright: bool) -> Reading:
    """Decide how an image is read of which nothing but the header was read so far.

    Args:
        image: as Pillow opened it.
        file: from which it did; its position is changed and put back.
        is_upright: it is known that there is nothing to rotate.

    Raises:
        TooLarge: it cannot be read in the memory that it may take, whatever the scale.
    """
    pixels, codec = image.width * image.height, _codec(image)
    if pixels > MAX_PIXELS:
        size = f"{image.width}x{image.height} pixels"
        raise TooLarge(f"has {size}, more than the limit of {MAX_PIXELS // 1_000_000} million; make it smaller")
    position = file.tell()
    is_jpeg = image.format in ("JPEG", "MPO")
    kept = _kept_by_jpeg(file) * pixels if is_jpeg else _kept(image, codec, pixels, file)
    file.seek(position)
    tries = [(scale, 1) for scale in _DECODER_SCALES] if is_jpeg else [(1, factor) for factor in _FACTORS]
    copies = image.mode != "RGB", not is_upright
    most = PHOTO_BYTES if image.format in _OF_PHONES and pixels <= PHOTO_PIXELS else MOST_BYTES
    for scale, factor in tries:
        peak = _peak(image.size, _bytes_of(image.mode), kept, scale, factor, *copies)
        if peak <= most and (scale * factor == 1 or min(image.size) // (scale * factor) >= MIN_SIDE):
            break
    else:
        raise TooLarge(_too_large(image, peak / pixels, is_jpeg))
    if codec in _SLOW and pixels > _SLOW_PIXELS:
        raise TooLarge(
            f"has {pixels / 1e6:.1f} million pixels, and of such a {image.format} file at most "
            f"{_SLOW_PIXELS // 1_000_000} million are read, because that takes seconds; save it as PNG"
        )
    return Reading(scale, factor, math.ceil(peak))


def _bytes_of(mode: str) -> int:
    return 2 if mode.startswith("I;16") else _BYTES.get(mode, 4)


def _peak(
    size: tuple[int, int], mode_bytes: int, kept: float, scale: int, factor: int, converts: bool, turns: bool
) -> float:
    """Bytes at the worst moment of the three: while pixels are decoded, change their mode, and are rotated."""
    decoded = math.ceil(size[0] / scale) * math.ceil(size[1] / scale)
    result = decoded / factor**2
    changing = mode_bytes * decoded + (_RGB if converts or factor > 1 else 1) * result  # 1: of a mask
    return max(kept + mode_bytes * decoded, changing, 2 * _RGB * result if turns else 0)


def _codec(image: Image.Image) -> str:
    """The name of the decoder, as far as Pillow tells it before it decodes."""
    tiles = getattr(image, "tile", None)
    return tiles[0][0] if tiles else image.format or ""


def _kept_by_jpeg(file: BinaryIO) -> float:
    header = image_headers.jpeg_header(file)
    return 2 * header.coefficients if header.has_several_scans else 0.0


def _kept(image: Image.Image, codec: str, pixels: int, file: BinaryIO) -> float:
    """Bytes that a decoder keeps beside the decoded image."""
    if image.format == "TIFF":
        return image_headers.tags_of_tiff(file) + (_largest_part(image) if codec == "libtiff" else 0)
    for name in (image.format, codec):
        if name in _KEPT:
            return _KEPT[name] * pixels + (file.seek(0, 2) if name in _READ_WHOLE else 0)
    if image.format == "JPEG2000":
        return _PER_BAND_OF_JPEG2000 * len(image.getbands()) * pixels + file.seek(0, 2)
    return _KEPT_OF_OTHERS * pixels + file.seek(0, 2)


def _largest_part(image: Image.Image) -> int:
    """Bytes of a strip or tile of a TIFF, which libtiff unpacks as a whole; a tile may be larger than its image."""
    tags = image.tag_v2
    width, height = int(tags.get(_WIDTH, image.width)), int(tags.get(_LENGTH, image.height))
    if _TILE_WIDTH in tags:
        size = int(tags[_TILE_WIDTH]) * int(tags.get(_TILE_LENGTH, height))
    else:
        size = width * min(int(tags.get(_ROWS, height)), height)
    return size * max(4, -(-sum(tags.get(_BITS, (8,))) // 8))


def _too_large(image: Image.Image, per_pixel: float, is_jpeg: bool) -> str:
    most = int(MOST_BYTES / per_pixel / 1e6)
    if image.format in _OF_PHONES:
        most = max(most, min(int(PHOTO_BYTES / per_pixel), PHOTO_PIXELS) // 1_000_000)
    million, size = image.width * image.height / 1e6, f"{image.width}x{image.height} pixels"
    way_out = "save it anew as a JPEG that is not progressive" if is_jpeg else "save it as JPEG"
    if million < 1:  # a tile that is larger than its image, for example
        return f"has {size}, and {per_pixel * million:.0f} MB are needed to decode them; {way_out}"
    return (
        f"has {size} ({million:.0f} million), and of such a {image.format} file in mode {image.mode} at most "
        f"{most} million are read; {way_out}, or make it smaller"
    )
