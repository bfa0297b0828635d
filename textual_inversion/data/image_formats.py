"""Which image formats are read, recognized by the content of a file and never by its name.

Only the decoders listed here run: Pillow would start Ghostscript for an EPS that is called .png. Some formats need a
package that the program does not bring; if it is installed, its images are read like all others.
"""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from PIL import Image, features

from textual_inversion.data import image_headers
from textual_inversion.data.png_chunks import without_texts
from textual_inversion.system import user_files

# Pillow's names.
_BUILT_IN = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "JPEG2000", "PPM", "ICO", "QOI", "PCX", "SGI", "DDS")
FORMAT_NAMES = "PNG, JPEG, WebP, BMP, GIF or TIFF"
# What images of these formats are usually called.
EXTENSIONS = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".jp2", ".j2k",
    ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".qoi", ".pcx", ".sgi", ".dds", ".tga",
)  # fmt: skip
_TGA_EXTENSIONS = (".tga", ".icb", ".vda", ".vst")
_TGA_FOOTER = b"TRUEVISION-XFILE.\0"
# Images of the camera, whose content looks like a TIFF with a small preview; and what Pillow would read in part only.
NEVER_READ = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".raf", ".pef", ".srw",
    ".raw", ".3fr", ".erf", ".kdc", ".dcr", ".mrw", ".x3f", ".rwl", ".iiq", ".gpr", ".psd", ".psb", ".xcf", ".svg",
)  # fmt: skip
_ICON = b"\0\0\1\0"
MOST_OF_ICONS = 16_000_000  # pixels; an icon is decoded before its size can be asked for
_HEAD = 64  # bytes; enough to tell all formats apart

# Pillow keeps its filters of warnings and its limit of pixels for all threads.
_opening = Lock()


@dataclass(frozen=True)
class Plugin:
    """A package that teaches Pillow a format.

    Attributes:
        format: Pillow's name.
        label: the name that people use.
        package: what to install.
        module: what to import.
        extensions: of such files, for those whose content does not tell.
    """

    format: str
    label: str
    package: str
    module: str
    extensions: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        """Whether the format can be read; the package is imported if it is there."""
        return _is_ready(self)


PLUGINS = (
    Plugin("HEIF", "HEIC", "pillow-heif", "pillow_heif", (".heic", ".heif", ".hif", ".heics", ".heifs")),
    Plugin("AVIF", "AVIF", "pillow-avif-plugin", "pillow_avif", (".avif", ".avifs")),
    Plugin("JXL", "JPEG XL", "pillow-jxl-plugin", "pillow_jxl", (".jxl",)),
)
_HEIF, _AVIF, _JXL = PLUGINS
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}


@cache
def _is_ready(plugin: Plugin) -> bool:
    if plugin is _AVIF and "avif" in features.get_supported():  # from Pillow 11.3 on
        return True
    try:
        module = importlib.import_module(plugin.module)
        if hasattr(module, "register_heif_opener"):
            module.register_heif_opener()
    except Exception:  # a package that is there and cannot be used is as good as none
        return False
    return plugin.format in Image.OPEN


def plugin_of(head: bytes) -> Plugin | None:
    """The plugin that reads a file, by the first `_HEAD` bytes of it; None: no plugin is needed."""
    if head[4:8] == b"ftyp":
        end = min(len(head), int.from_bytes(head[:4], "big"))
        brands = {head[position : position + 4] for position in range(8, end, 4)}
        if brands & _AVIF_BRANDS:
            return _AVIF
        return _HEIF if brands & _HEIF_BRANDS else None
    return _JXL if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")) else None


def missing_plugin(path: Path) -> Plugin | None:
    """The plugin that would be needed to read a file and is not installed; None where there is no such thing."""
    found = plugin_of(_head_of(path))
    found = found or next((plugin for plugin in PLUGINS if path.name.lower().endswith(plugin.extensions)), None)
    return None if found is None or found.is_ready else found


def is_image(path: Path) -> bool:
    """Whether the content of a file is an image whose header can be read. Nothing is decoded."""
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            opened = open_image(file, path)
            # Any four bytes may be the length of a bitmap's header.
            return opened.format != "DIB" or path.name.lower().endswith(".dib")
    except Exception:  # on what is no image, decoders raise almost any exception
        return False


def open_image(file: BinaryIO, path: Path, note=lambda line: None) -> Image.Image:
    """Open an image by its content; its pixels are not decoded yet. Several threads may call this at once.

    Args:
        file: at its beginning; can seek.
        path: its name; a TGA may have no other mark.
        note: called with what is left out of the file.

    Raises:
        AsksForTooMuch: its headers announce more than any image needs.
        Exception: it is no image of a known format. Decoders raise almost any exception on damaged data.
    """
    image_headers.check(file)
    head = file.read(_HEAD)
    plugin = plugin_of(head)
    if plugin is not None:
        formats = (plugin.format,) if plugin.is_ready else ()
    elif _is_tga(file, path):
        formats = (*_BUILT_IN, "TGA")
    else:
        formats = _BUILT_IN
    file.seek(0)
    with _opening, warnings.catch_warnings(), _bounded(head.startswith(_ICON)):
        warnings.simplefilter("ignore")  # Pillow warns above 89 million pixels
        return Image.open(without_texts(file, note), formats=formats)


@contextmanager
def _bounded(is_icon: bool) -> Iterator[None]:
    """Let Pillow refuse what is too large inside an icon: it decodes that at once, whatever the header says."""
    before = Image.MAX_IMAGE_PIXELS
    if is_icon:
        Image.MAX_IMAGE_PIXELS = MOST_OF_ICONS // 2  # it refuses twice as many
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _head_of(path: Path) -> bytes:
    try:
        with user_files.opened(path, user_files.IMAGE) as file:
            return file.read(_HEAD)
    except OSError:
        return b""


def _is_tga(file: BinaryIO, path: Path) -> bool:
    if path.name.lower().endswith(_TGA_EXTENSIONS):
        return True
    size = file.seek(0, 2)
    file.seek(max(0, size - len(_TGA_FOOTER)))
    return file.read() == _TGA_FOOTER
