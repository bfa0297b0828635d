"""The colours of a decoded image brought to 8-bit sRGB, tile by tile.

Each tile is converted, and reduced where the image is very large, on its way into the result. So a change of colours
takes the result's memory and that of a tile, and nothing where the result can replace the image.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageCms

from textual_inversion.formats.errors import printable
from textual_inversion.system.errors import ImageError

_TILE = 1 << 18  # pixels that are changed at once
_TILE_WIDTH = 1365 * 12  # pixels; a multiple of each factor

Box = tuple[int, int, int, int]
Change = Callable[[Image.Image], Image.Image]
Say = Callable[[str], None]


def to_rgb(image: Image.Image, factor: int, path: Path, say: Say) -> Image.Image:
    """The RGB image, with transparency on white.

    Args:
        image: decoded, in any mode; it may be changed.
        factor: squares of so many pixels along a side are averaged.
        path: of its file, for messages.
        say: called with each change of colours.

    Raises:
        ImageError: its values or colours cannot be converted, or it is transparent everywhere.
    """
    with _named(image, path):
        change, finish = _change(image, path, say)
        result = _in_tiles(image, change, factor)
        finish()
    return result


def to_mask(image: Image.Image, factor: int, path: Path, say: Say) -> Image.Image:
    """Brightness times opacity, mode "L"; arguments and errors as of `to_rgb`."""
    with _named(image, path):
        change, finish = _change(image, path, say)
        result = _in_tiles(
            image, lambda tile: ImageChops.multiply(change(tile).convert("L"), _opacity(tile)), factor, "L"
        )
        finish()
    return result


def to_alpha(image: Image.Image, factor: int, path: Path, say: Say) -> Image.Image:
    """Opacity, mode "L"; arguments as of `to_rgb`."""
    with _named(image, path):
        return _in_tiles(image, _opacity, factor, "L")


def _opacity(tile: Image.Image) -> Image.Image:
    if tile.has_transparency_data:
        return (tile if tile.mode == "RGBA" else tile.convert("RGBA")).getchannel("A")
    return Image.new("L", tile.size, 255)


# --------------------------------------------------------------------------------------------------------------- tiles


def _in_tiles(image: Image.Image, change: Change, factor: int, mode: str = "RGB") -> Image.Image:
    """The image of which each tile is what `change` makes of that tile, reduced by `factor`."""
    if image.mode == mode and factor == 1:
        if change is _plain:
            return image
        whole = image
    else:
        whole = Image.new(mode, tuple(-(-side // factor) for side in image.size))
    for box in _boxes(image, factor):
        tile = change(image.crop(box))
        whole.paste(tile.reduce(factor) if factor > 1 else tile, (box[0] // factor, box[1] // factor))
    return whole


@contextmanager
def _named(image: Image.Image, path: Path) -> Iterator[None]:
    """Turn what Pillow raises for modes that cannot become RGB, such as Lab, into an `ImageError`."""
    try:
        yield
    except (ImageError, OSError, MemoryError):
        raise
    except Exception as error:  # a palette image without its palette, too
        raise ImageError(f"{path}: its colours ({image.mode}) cannot be converted; save it as RGB PNG") from error


def _boxes(image: Image.Image, factor: int = 1) -> Iterator[Box]:
    """The tiles of an image, with sides that are multiples of `factor` except at the right and lower edges."""
    columns = min(image.width, _TILE_WIDTH)
    rows = max(1, _TILE // columns // factor) * factor
    for top in range(0, image.height, rows):
        for left in range(0, image.width, columns):
            yield left, top, min(image.width, left + columns), min(image.height, top + rows)


def _plain(tile: Image.Image) -> Image.Image:
    return tile.convert("RGB")


# ------------------------------------------------------------------------------------------------------------- changes


def _nothing() -> None:
    """What is left to do at the end where nothing is."""


def _change(image: Image.Image, path: Path, say: Say) -> tuple[Change, Callable[[], None]]:
    """What makes RGB of a tile of this image, and what is to be done after the last one."""
    if image.mode.startswith("I") or image.mode == "F":
        say(f"{'16' if ';' in image.mode or image.format == 'PPM' else '32'}-bit values scaled to 8 bits")
        low, high = _range(image, path)
        return lambda tile: _eight_bits(tile, low, high).convert("RGB"), _nothing
    if image.has_transparency_data:
        laid = _OnWhite()
        to_srgb = _to_srgb("RGB", image.info.get("icc_profile"), say)
        return lambda tile: to_srgb(laid(tile)), lambda: laid.tell(path, say)
    if image.mode == "CMYK":
        say("CMYK converted to RGB")
    if image.mode in ("RGB", "CMYK"):
        return _to_srgb(image.mode, image.info.get("icc_profile"), say), _nothing
    return _plain, _nothing


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
    for box in _boxes(image):
        values = np.asarray(image.crop(box))
        if not np.isfinite(values).all():
            raise ImageError(f"{path}: holds values that are NaN or infinite; repair them, or save it as 8-bit PNG")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    found = next(((0.0, white) for white in (1.0, 255.0, 65535.0) if low >= 0 and high <= white), (low, high))
    if found[0] == found[1]:
        raise ImageError(
            f"{path}: holds {low:g} everywhere, which is black, white or anything between; save it as 8-bit PNG"
        )
    return found


def _eight_bits(tile: Image.Image, low: float, high: float) -> Image.Image:
    """Mode "L", of 16- or 32-bit values."""
    values = np.asarray(tile, np.float64)
    return Image.fromarray(np.round((values - low) * (255.0 / (high - low))).astype(np.uint8))


class _OnWhite:
    """Lays tiles on white, and keeps how transparent they were."""

    def __init__(self):
        self._least, self._most = 255, 0

    def __call__(self, tile: Image.Image) -> Image.Image:
        tile = tile.convert("RGBA")
        least, most = tile.getchannel("A").getextrema()
        self._least, self._most = min(self._least, least), max(self._most, most)
        return Image.alpha_composite(Image.new("RGBA", tile.size, "white"), tile).convert("RGB")

    def tell(self, path: Path, say: Say) -> None:
        """Say so of an image that is partly transparent; raises ImageError for one that is nothing else."""
        if self._most == 0:
            raise ImageError(f"{path}: is transparent everywhere; save it without transparency or remove it")
        if self._least < 255:
            say("transparency laid on white")


def _to_srgb(mode: str, profile: bytes | None, say: Say) -> Change:
    """What converts tiles to sRGB by the embedded ICC profile, so that wide-gamut photos keep their colours."""
    if not profile:
        return _plain
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        if "srgb" in name.lower():
            return _plain
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        ImageCms.applyTransform(Image.new(mode, (1, 1)), transform)
    except (ImageCms.PyCMSError, OSError, ImportError):  # a damaged or wrong profile, or Pillow without LittleCMS
        say("its colour profile cannot be used; the colours are taken for sRGB")
        return _plain
    say(f"colours converted from {printable(name, 60) or 'its profile'} to sRGB")
    return lambda tile: ImageCms.applyTransform(tile, transform)
