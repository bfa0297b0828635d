"""Images from a user's folder: checked, converted to RGB, resized to the model's size.

An image that can be used is used, and `note` is called with what was done to it: photos are rotated by their EXIF
orientation, transparency is laid on white, CMYK, 16-bit, palette and wide-gamut images are converted to sRGB, and an
animation gives its first frame. An image that cannot be used raises an `ImageError` that names the file and the way
out.

A small file may stand for a huge image. So before any pixel is decoded, `image_memory.plan` decides from the header at
what scale the image is read, or that it is refused: reading one takes at most `image_memory.MOST_BYTES`, a photo in a
format of phones at most `PHOTO_BYTES`. Everything that reads an image of a user comes through here.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from textual_inversion.data import image_colours, image_headers, image_memory
from textual_inversion.data.image_formats import FORMAT_NAMES, MOST_OF_ICONS, missing_plugin, open_image
from textual_inversion.data.image_memory import MAX_PIXELS, MIN_SIDE, Reading
from textual_inversion.system import user_files
from textual_inversion.system.errors import ImageError, SettingsError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "linear": Image.Resampling.BILINEAR,  # what other examples of this method call bilinear
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_STRIP = 1 << 20  # pixels that are hashed at once
_CROPPED_PIXELS = 20_000_000  # of more, no second copy is made to cut out a part

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {  # EXIF orientation -> the transposition that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Note = Callable[[str], None]
Convert = Callable[[Image.Image, int, Path, Note], Image.Image]


def _silent(_: str) -> None:
    """A `note` that does nothing."""


# ----------------------------------------------------------------------------------------------------- one image


def load_image(path: str | os.PathLike[str], note: Note = _silent) -> Image.Image:
    """Read one image as upright 8-bit sRGB (PIL mode "RGB"). Several threads may call this at once.

    A very large one is read at a fraction of its size; `image_memory` says when.

    Args:
        path: the file; its content decides its format, not its name.
        note: called with each change that was made to the image, in one line that starts with the path.

    Raises:
        ImageError: the file cannot be read, is not an image of a known format, is damaged, has a side under
            `MIN_SIDE` pixels, cannot be read in the memory that it may take, or is transparent everywhere.
    """
    return _load(path, note, image_colours.to_rgb)


def load_mask(path: str | os.PathLike[str]) -> Image.Image:
    """The brightness of an image times its opacity, upright: mode "L"; raises as `load_image`."""
    return _load(path, _silent, image_colours.to_mask)


def load_alpha(path: str | os.PathLike[str]) -> Image.Image:
    """The opacity of an image, upright: mode "L", 255 where it is opaque; raises as `load_image`."""
    return _load(path, _silent, image_colours.to_alpha)


def stored_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of an image as its header tells them, before it is turned upright; raises ImageError."""
    path = Path(path)
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            return _read_header(file, path, _silent).size
    except OSError as error:
        raise ImageError(_cannot_read(path, error)) from error


def memory_of(path: str | os.PathLike[str]) -> int:
    """Bytes that reading an image takes, as its header tells; 0 where it cannot be read, which `load_image` reports."""
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            image = open_image(file, Path(path))
            return image_memory.plan(image, file, is_upright=_is_upright(image)).peak
    except Exception:  # on damaged data, decoders raise almost any exception
        return 0


def _load(path: str | os.PathLike[str], note: Note, convert: Convert) -> Image.Image:
    """An image of which each part is what `convert` makes of it, upright."""
    path = Path(path)

    def say(what: str) -> None:
        note(f"{path}: {what}")

    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            image, factor, transposition = _decode(file, path, say)
            image = convert(image, factor, path, say)
    except OSError as error:
        raise ImageError(_cannot_read(path, error)) from error
    image.info = {}  # profile and EXIF have been applied
    return image if transposition is None else image.transpose(transposition)


def _cannot_read(path: Path, error: OSError) -> str:
    return f"{path}: cannot be read ({error.strerror or error}); check its name and permissions"


def _decode(file: BinaryIO, path: Path, say: Note) -> tuple[Image.Image, int, Image.Transpose | None]:
    """The first frame in its stored mode, by what factor to reduce it, and how to turn it upright."""
    image = _read_header(file, path, say)
    if min(image.size) < MIN_SIDE and image.width * image.height <= MAX_PIXELS:
        size = f"{image.width}x{image.height} pixels"
        raise ImageError(f"{path}: is only {size}; use images of at least {MIN_SIDE}x{MIN_SIDE}, better 512x512")
    try:
        reading = image_memory.plan(image, file, is_upright=_is_upright(image))
        plain = _pixels(image, reading, say)
    except image_memory.TooLarge as error:
        raise ImageError(f"{path}: {error}") from error
    except Exception as error:  # also tags of a TIFF that are no numbers
        raise ImageError(f"{path}: is damaged or incomplete ({_reason(error)}); copy it again or remove it") from error
    if (transposition := _transposition(image)) is not None:  # a PNG may have its EXIF after its pixels
        say("turned upright by its EXIF orientation")
    return plain, reading.factor, transposition


def _pixels(image: Image.Image, reading: Reading, say: Note) -> Image.Image:
    """Decode the first frame; without the decoder, which may keep copies of its own."""
    width, height = image.size
    if reading.scale > 1:
        image.draft(None, (width // reading.scale, height // reading.scale))
    image.load()
    if image.format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF") and _has_frames(image):
        say("has several frames, the first one is used")
        image.seek(0)
        image.load()
    if reading.is_reduced:
        share = reading.scale * reading.factor
        say(f"has {width}x{height} pixels, so it is read at 1/{share} of its width and height")
    plain = image._new(image.im)  # `copy` would take as much memory again
    plain.format = image.format
    return plain


def _has_frames(image: Image.Image) -> bool:
    """Whether an image has a second frame. Pillow would go over all frames of a TIFF, which may be a million."""
    if image.format != "TIFF":
        return getattr(image, "is_animated", False)
    try:
        image.seek(1)
    except EOFError:
        return False
    return True


def _read_header(file: BinaryIO, path: Path, say: Note) -> Image.Image:
    try:
        return open_image(file, path, say)
    except image_headers.AsksForTooMuch as error:
        raise ImageError(f"{path}: {error}; save it anew as JPEG or PNG") from error
    except Image.DecompressionBombError as error:
        most = f"{MAX_PIXELS // 1_000_000} million, or {MOST_OF_ICONS // 1_000_000} million in an icon"
        raise ImageError(f"{path}: has far more pixels, more than the limit of {most}; make it smaller") from error
    except Exception as error:  # on damaged data, decoders raise almost any exception
        raise ImageError(f"{path}: {_why_no_image(path)}") from error


def _is_upright(image: Image.Image) -> bool:
    """Whether that is known before the pixels are decoded. Pillow would decode a PNG to look for EXIF behind them."""
    return image.format in ("JPEG", "MPO") and _transposition(image) is None


def _transposition(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright, by its EXIF orientation."""
    try:
        if not image_headers.is_cheap_exif(image.info.get("exif", b"")):
            return None
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)  # Pillow has rotated TIFFs and removed their tag
    except Exception:  # damaged EXIF does not mean damaged pixels
        return None
    return _UPRIGHT.get(orientation)


def _why_no_image(path: Path) -> str:
    if path.stat().st_size == 0:
        return "is empty (0 bytes); copy it again or remove it"
    plugin = missing_plugin(path)
    if plugin is not None:
        return f"is {plugin.label}, which is read after `pip install {plugin.package}`; or save it as JPEG or PNG"
    return f"is not an image that can be read, whatever its name; save it as {FORMAT_NAMES}, or remove it"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ----------------------------------------------------------------------------------------------- sizes and arrays


def fit(
    image: Image.Image,
    height: int,
    width: int,
    *,
    center_crop: bool = False,
    box: tuple[int, int, int, int] | None = None,
    interpolation: str = "bilinear",
) -> Image.Image:
    """Resize an image, or its mask, to `height` x `width` pixels.

    Without `center_crop` the image is squashed to the target's shape. With it, the largest centred rectangle of that
    shape is cut out first, or with `box` that part: left, top, right, bottom in pixels. Every source pixel counts, also
    when a large image becomes small, except with "nearest".

    Raises:
        SettingsError: the interpolation is not in `choices.INTERPOLATIONS`.
    """
    if center_crop:
        box = centred(image.width, image.height, width / height)
    if box is not None and image.width * image.height <= _CROPPED_PIXELS:
        image, box = image.crop(box), None
    return image.resize((width, height), _resampling(interpolation), box)


def cover(image: Image.Image, height: int, width: int, *, interpolation: str = "bilinear") -> Image.Image:
    """Resize a whole image, with its aspect ratio kept, to the smallest size that covers `height` x `width` pixels.

    Raises:
        SettingsError: the interpolation is not in `choices.INTERPOLATIONS`.
    """
    scale = max(height / image.height, width / image.width)
    size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
    return image.resize(size, _resampling(interpolation))


def _resampling(interpolation: str) -> Image.Resampling:
    if interpolation not in _FILTERS:
        raise SettingsError(f"interpolation {interpolation!r} is unknown; choose one of {', '.join(_FILTERS)}")
    return _FILTERS[interpolation]


def centred(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box with this aspect ratio (width / height), in pixels: left, top, right, bottom."""
    box_width = max(1, min(width, round(height * aspect)))
    box_height = max(1, min(height, round(width / aspect)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def content_digest(image: Image.Image) -> bytes:
    """SHA-256 of an image's mode, size and pixels; where it came from does not count."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        digest.update(image.crop((0, top, image.width, min(image.height, top + rows))).tobytes())
    return digest.digest()


def to_bytes(image: Image.Image) -> np.ndarray:
    """uint8 [3, H, W] of an RGB image."""
    return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def to_unit(pixels: np.ndarray) -> np.ndarray:
    """float32 values in [-1, 1] of uint8 values."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def to_array(image: Image.Image) -> np.ndarray:
    """float32 [3, H, W] in [-1, 1] of an RGB image."""
    return to_unit(to_bytes(image))


def from_array(array: np.ndarray) -> Image.Image:
    """The RGB image of [3, H, W] values in [-1, 1]; values outside are clipped, NaN becomes black."""
    if array.ndim != 3 or array.shape[0] != 3:
        raise ValueError(f"expected an array [3, H, W], got {list(array.shape)}")
    pixels = (np.nan_to_num(array.astype(np.float32), nan=-1.0) + 1.0) * 127.5
    return Image.fromarray(np.round(pixels.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0))
