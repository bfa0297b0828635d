"""PNG files with text beside the image: written complete or not at all, and read again from wherever they come."""

import contextlib
import io
import os
from collections.abc import Iterator

from PIL import Image, PngImagePlugin

from textual_inversion.system import user_files
from textual_inversion.system.atomic import write_bytes

# What reading a PNG file may raise: it is missing, damaged, none, or far too large.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def text_in(path: str | os.PathLike[str], name: str, most: int = 1 << 16) -> str | None:
    """A text that a PNG file holds under a name; None where it holds none, or one of more than `most` letters."""
    try:
        with opened_png(path) as image:
            text = image.text.get(name)
    except (AttributeError, *UNREADABLE):
        return None
    return text if isinstance(text, str) and len(text) <= most else None


@contextlib.contextmanager
def opened_png(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A PNG file whose pixels are read when they are asked for; whatever is wrong with it is one of `UNREADABLE`."""
    with user_files.opened(path, user_files.IMAGE) as file, Image.open(file, formats=["PNG"]) as image:
        yield image


def save_png(image: Image.Image, path: str | os.PathLike[str], *, text: dict[str, str] | None = None) -> None:
    """Write a PNG file, complete or not at all; `text` as for `png_bytes`.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, png_bytes(image, text=text))


def png_bytes(image: Image.Image, *, text: dict[str, str] | None = None) -> bytes:
    """A PNG file's content.

    Args:
        text: name -> text, stored in text chunks (prompt, seed, …); a name has 1–79 Latin characters.
    """
    info = PngImagePlugin.PngInfo()
    for name, value in (text or {}).items():
        value = value.encode("utf-8", "replace").decode("utf-8")  # a file name may hold bytes that are not text
        info.add_text(name, value)  # Pillow writes UTF-8 where Latin-1 is not enough
    content = io.BytesIO()  # Pillow itself would not report a full disk
    image.save(content, format="PNG", pnginfo=info)
    return content.getvalue()
