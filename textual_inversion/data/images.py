"""Images from a user's folder: checked, converted to RGB, resized to the model's size.

An image that can be used is used, and `note` is called with what was done to it: photos are rotated by their EXIF
orientation, transparency is laid on white, CMYK, 16-bit, palette and wide-gamut images are converted to sRGB, and an
animation gives its first frame. An image that cannot be used raises an `ImageError` that names the file and the way
out.

A small file may stand for a huge image. So its size is read from the header before any pixel is decoded: at most
`MAX_PIXELS`, which take 4 bytes each in memory, whatever the mode. Changes of colour are made in strips. While an image
is read it takes two copies, 8 bytes a pixel; images of more than `LARGE_PIXELS` are read one at a time.
"""

import hashlib
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms

from textual_inversion.data.image_formats import FORMAT_NAMES, MAX_PIXELS, missing_plugin, open_image
from textual_inversion.formats.errors import printable
from textual_inversion.system import user_files
from textual_inversion.system.errors import ImageError, SettingsError

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "linear": Image.Resampling.BILINEAR,  # what other examples of this method call bilinear
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
LARGE_PIXELS = 32_000_000  # read one at a time; a photo of most phones and cameras is smaller
_STRIP = 1 << 20  # pixels that are changed at once
MIN_SIDE = 8  # pixels; the VAE encodes 8x8 pixels as one latent

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


def _silent(_: str) -> None:
    """A `note` that does nothing."""


# ----------------------------------------------------------------------------------------------------- one image


def load_image(path: str | os.PathLike[str], note: Note = _silent) -> Image.Image:
    """Read one image as upright 8-bit sRGB (PIL mode "RGB"). Several threads may call this at once.

    Args:
        path: the file; its content decides its format, not its name.
        note: called with each change that was made to the image, in one line that starts with the path.

    Raises:
        ImageError: the file cannot be read, is not an image of a known format, is damaged, has a side under
            `MIN_SIDE` pixels, has more than `MAX_PIXELS` pixels, or is transparent everywhere.
    """
    path = Path(path)

    def say(what: str) -> None:
        note(f"{path}: {what}")

    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            return _to_rgb(_decode(file, path, say), path, say)
    except OSError as error:
        raise ImageError(_cannot_read(path, error)) from error


def stored_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of an image as its header tells them, before it is turned upright; raises ImageError."""
    path = Path(path)
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            return _read_header(file, path, _silent).size
    except OSError as error:
        raise ImageError(_cannot_read(path, error)) from error


def is_large(path: str | os.PathLike[str]) -> bool:
    """Whether an image has so many pixels that only one such should be read at a time; its header tells."""
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            image = open_image(file, Path(path))
    except Exception:  # `load_image` says what is wrong with it
        return False
    return image.width * image.height > LARGE_PIXELS


def load_alpha(path: str | os.PathLike[str]) -> Image.Image:
    """The opacity of an image, upright: mode "L", 255 where it is opaque.

    Raises:
        ImageError: as `load_image`.
    """
    path = Path(path)
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            image = _decode(file, path, _silent)
    except OSError as error:
        raise ImageError(_cannot_read(path, error)) from error
    if image.has_transparency_data:
        return (image if image.mode == "RGBA" else image.convert("RGBA")).getchannel("A")
    return Image.new("L", image.size, 255)


def _cannot_read(path: Path, error: OSError) -> str:
    return f"{path}: cannot be read ({error.strerror or error}); check its name and permissions"


def _decode(file: BinaryIO, path: Path, say: Note) -> Image.Image:
    """The first frame, decoded and upright, in its stored mode."""
    image = _read_header(file, path, say)
    _check_size(image, path)
    try:
        image.load()
        if image.format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF") and _has_frames(image):
            say("has several frames, the first one is used")
            image.seek(0)
            image.load()
    except Exception as error:
        raise ImageError(f"{path}: is damaged or incomplete ({_reason(error)}); copy it again or remove it") from error
    return _upright(image, say)


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
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(path, "far more pixels")) from error
    except Exception as error:  # on damaged data, decoders raise almost any exception
        raise ImageError(f"{path}: {_why_no_image(path)}") from error


def _check_size(image: Image.Image, path: Path) -> None:
    size = f"{image.width}x{image.height} pixels"
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(_too_large(path, size))
    if min(image.size) < MIN_SIDE:
        raise ImageError(f"{path}: is only {size}; use images of at least {MIN_SIDE}x{MIN_SIDE}, better 512x512")


def _upright(image: Image.Image, say: Note) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)  # Pillow has rotated TIFFs and removed their tag
    except Exception:  # damaged EXIF does not mean damaged pixels
        return image
    if orientation not in _UPRIGHT:
        return image
    say("turned upright by its EXIF orientation")
    return image.transpose(_UPRIGHT[orientation])


def _why_no_image(path: Path) -> str:
    if path.stat().st_size == 0:
        return "is empty (0 bytes); copy it again or remove it"
    plugin = missing_plugin(path)
    if plugin is not None:
        return f"is {plugin.label}, which is read after `pip install {plugin.package}`; or save it as JPEG or PNG"
    return f"is not an image that can be read, whatever its name; save it as {FORMAT_NAMES}, or remove it"


def _too_large(path: Path, size: str) -> str:
    return f"{path}: has {size}, more than the limit of {MAX_PIXELS // 1_000_000} million; make it smaller"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# --------------------------------------------------------------------------------------------------- colours to RGB


def _to_rgb(image: Image.Image, path: Path, say: Note) -> Image.Image:
    profile = image.info.get("icc_profile")
    try:
        if image.mode.startswith("I") or image.mode == "F":
            say(f"{'16' if ';' in image.mode or image.format == 'PPM' else '32'}-bit values scaled to 8 bits")
            low, high = _range(image, path)
            return _in_strips(image, lambda strip: _eight_bits(strip, low, high))
        if image.has_transparency_data:
            image = _on_white(image, path, say)
        if image.mode == "CMYK":
            say("CMYK converted to RGB")
        if image.mode in ("RGB", "CMYK") and profile:
            return _to_srgb(image, profile, say)
        return image if image.mode == "RGB" and type(image) is Image.Image else _in_strips(image, _plain)
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # a mode that cannot become RGB, such as Lab; a palette image without its palette
        raise ImageError(f"{path}: its colours ({image.mode}) cannot be converted; save it as RGB PNG") from error


def _in_strips(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The RGB image of which each strip is what `change` makes of that strip, so that no third copy is in memory."""
    whole = Image.new("RGB", image.size)
    for top in _strips(image):
        whole.paste(change(_strip(image, top)), (0, top))
    return whole


def _strips(image: Image.Image) -> range:
    """The first rows of strips of about `_STRIP` pixels."""
    return range(0, image.height, max(1, _STRIP // image.width))


def _strip(image: Image.Image, top: int) -> Image.Image:
    return image.crop((0, top, image.width, min(image.height, top + max(1, _STRIP // image.width))))


def _plain(strip: Image.Image) -> Image.Image:
    return strip.convert("RGB")


def _range(image: Image.Image, path: Path) -> tuple[float, float]:
    """The 16- or 32-bit values that become black and white.

    16-bit values have a fixed range. 32-bit values do not record theirs: it is taken to be the first of 0…1, 0…255 and
    0…65535 that contains them all, or else their own range.

    Raises:
        ImageError: some are NaN or infinite, or all are the same and outside those ranges.
    """
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        return 0.0, 65535.0
    low, high = np.inf, -np.inf
    for top in _strips(image):
        values = np.asarray(_strip(image, top))
        if not np.isfinite(values).all():
            raise ImageError(f"{path}: holds values that are NaN or infinite; repair them, or save it as 8-bit PNG")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    found = next(((0.0, white) for white in (1.0, 255.0, 65535.0) if low >= 0 and high <= white), (low, high))
    if found[0] == found[1]:
        raise ImageError(
            f"{path}: holds {low:g} everywhere, which is black, white or anything between; save it as 8-bit PNG"
        )
    return found


def _eight_bits(strip: Image.Image, low: float, high: float) -> Image.Image:
    """Mode "L", of 16- or 32-bit values."""
    values = np.asarray(strip, np.float64)
    return Image.fromarray(np.round((values - low) * (255.0 / (high - low))).astype(np.uint8))


def _on_white(image: Image.Image, path: Path, say: Note) -> Image.Image:
    least, most = 255, 0

    def laid(strip: Image.Image) -> Image.Image:
        nonlocal least, most
        strip = strip.convert("RGBA")
        alpha = strip.getchannel("A").getextrema()
        least, most = min(least, alpha[0]), max(most, alpha[1])
        return Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB")

    whole = _in_strips(image, laid)
    if most == 0:
        raise ImageError(f"{path}: is transparent everywhere; save it without transparency or remove it")
    if least < 255:
        say("transparency laid on white")
    return whole


def _to_srgb(image: Image.Image, profile: bytes, say: Note) -> Image.Image:
    """Convert to sRGB by the embedded ICC profile, so that wide-gamut photos keep their colours."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return _in_strips(image, _plain)
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        converted = _in_strips(image, lambda strip: ImageCms.applyTransform(strip, transform))
    except (ImageCms.PyCMSError, OSError, ImportError):  # a damaged or wrong profile, or Pillow without LittleCMS
        say("its colour profile cannot be used; the colours are taken for sRGB")
        return _in_strips(image, _plain)
    say(f"colours converted from {printable(name, 60) or 'its profile'} to sRGB")
    return converted


# ----------------------------------------------------------------------------------------------- sizes and arrays


def fit(
    image: Image.Image, height: int, width: int, *, center_crop: bool = False, interpolation: str = "bilinear"
) -> Image.Image:
    """Resize an image, or its mask, to `height` x `width` pixels.

    Without `center_crop` the image is squashed to the target's shape. With it, the largest centred rectangle of that
    shape is cut out first. Every source pixel counts, also when a large image becomes small, except with "nearest".

    Raises:
        SettingsError: the interpolation is not in `choices.INTERPOLATIONS`.
    """
    if center_crop:
        image = image.crop(_centred(image.width, image.height, width / height))
    return image.resize((width, height), _resampling(interpolation))


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


def _centred(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box with this aspect ratio (width / height), in pixels: left, top, right, bottom."""
    box_width = max(1, min(width, round(height * aspect)))
    box_height = max(1, min(height, round(width / aspect)))
    left, top = (width - box_width) // 2, (height - box_height) // 2
    return left, top, left + box_width, top + box_height


def content_digest(image: Image.Image) -> bytes:
    """SHA-256 of an image's mode, size and pixels; where it came from does not count."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    for top in _strips(image):
        digest.update(_strip(image, top).tobytes())
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
