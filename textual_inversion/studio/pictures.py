"""Images of runs and drawings for the browser: read by the safe reader, reduced, and remembered."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock

from PIL import Image

from textual_inversion.data.images import load_image
from textual_inversion.data.previews import jpeg
from textual_inversion.system.errors import ImageError

_MOST_KEPT = 32 << 20  # bytes
_SMALL = 192  # pixels; images below are enlarged pixel by pixel, so that they are not blurred


class Pictures:
    """A memory of images that were shown before."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple, bytes] = OrderedDict()
        self._size, self._lock = 0, Lock()

    def shown(self, path: Path, longest: int = 512) -> bytes | None:
        """A JPEG of an image, its longer side at most `longest` pixels; None where it cannot be read."""
        try:
            status = path.stat()
        except OSError:
            return None
        key = (str(path), status.st_size, status.st_mtime_ns, longest)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        try:
            found = jpeg(_enlarged(load_image(path)), longest, 92)
        except (ImageError, OSError):
            return None
        with self._lock:
            self._kept[key] = found
            self._size += len(found)
            while self._size > _MOST_KEPT and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
        return found


def _enlarged(image: Image.Image) -> Image.Image:
    factor = max(1, -(-_SMALL // max(image.size)))
    return (
        image if factor == 1 else image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    )
