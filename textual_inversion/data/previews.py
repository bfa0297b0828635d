"""Small versions of the training images, for overview and scores, in little memory however many images there are.

All small versions together take at most `_TOTAL` bytes, or `_LEAST` bytes for each image where there are very many. A
few small images are kept as the model sees them, pixel by pixel; of others, JPEGs are kept, and of very many, small
JPEGs.
"""

from io import BytesIO

import numpy as np
from PIL import Image

from textual_inversion.data.image_sequence import ImageSequence

_TOTAL = 2_000_000  # bytes
_LEAST = 8_000
# (longest side in pixels, quality) of a JPEG, until one is small enough; CLIP looks at 224 pixels.
_LADDER = ((None, 95), (None, 85), (384, 85), (224, 85), (224, 70), (192, 60), (128, 60), (64, 60), (32, 50))


class Previews:
    """Takes the images of a run one by one, and keeps small versions of them.

    Args:
        count: how many there will be.
    """

    def __init__(self, count: int):
        self._most = max(_LEAST, _TOTAL // max(1, count))
        self._kept: list[np.ndarray | bytes] = []

    def add(self, image: Image.Image) -> None:
        """Keep a small version of an RGB image."""
        self._kept.append(small_version(image, self._most))

    @property
    def images(self) -> ImageSequence:
        """The small versions, in the order in which they were added."""
        return ImageSequence(self._kept, _shown)


def small_version(image: Image.Image, most: int) -> np.ndarray | bytes:
    """An RGB image in at most `most` bytes: its pixels, uint8 [H, W, 3], if they are not more, else a JPEG."""
    if 3 * image.width * image.height <= most:
        return np.array(image)
    encoded = b""
    for longest, quality in _LADDER:
        encoded = jpeg(image, longest, quality)
        if len(encoded) <= most:
            break
    return encoded


def jpeg(image: Image.Image, longest: int | None, quality: int) -> bytes:
    """An RGB image as a JPEG, its longer side at most `longest` pixels."""
    if longest is not None and longest < max(image.size):
        image = image.copy()
        image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 90 else -1)
    return buffer.getvalue()


def _shown(kept: np.ndarray | bytes) -> Image.Image:
    return Image.fromarray(kept) if isinstance(kept, np.ndarray) else Image.open(BytesIO(kept)).convert("RGB")
