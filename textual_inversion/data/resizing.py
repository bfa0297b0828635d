"""How pictures of any shape are brought to the shapes that a model trains on: squashed, cropped, or in buckets.

An aspect-ratio bucket is a shape of about the target's area. A picture goes to the bucket whose shape is nearest to its
own and loses only the little that is left over, where a crop to one common shape would cut off heads and feet.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from textual_inversion.data.images import cover, fit

_LARGE_SIDE = 256  # pixels from which a picture's sides are multiples of _LARGE_MULTIPLE, as large models want them
_LARGE_MULTIPLE = 64
_LONGEST = 2.0  # a bucket's longer side is at most so many times the target's
_LEAST_AREA = 0.8  # of the target's: smaller shapes waste the model's detail

Shape = tuple[int, int]


def bucket_shapes(height: int, width: int, multiple: int) -> list[Shape]:
    """All shapes (height, width) of about the target's area and not above it, sides multiples of `multiple`.

    Args:
        height, width: the target, which is always one of them.
        multiple: what the model's sides must be multiples of; large targets take multiples of 64.
    """
    if min(height, width) >= _LARGE_SIDE:
        multiple = math.lcm(multiple, _LARGE_MULTIPLE)
    area, longest = height * width, int(_LONGEST * max(height, width))
    shapes = {(height, width)}
    for long in range(multiple, longest + 1, multiple):
        short = area // long // multiple * multiple
        if short and short <= longest and short * long >= _LEAST_AREA * area:
            shapes |= {(long, short), (short, long)}
    return sorted(shapes)


def nearest_shape(size: tuple[int, int], shapes: list[Shape]) -> Shape:
    """The shape whose aspect ratio is nearest to a picture's (width, height), by ratio of ratios; else the largest."""
    aspect = size[0] / size[1]
    return min(shapes, key=lambda shape: (round(abs(math.log(shape[1] / shape[0] / aspect)), 9), -shape[0] * shape[1]))


@dataclass(frozen=True)
class Framing:
    """What is done to every picture.

    Attributes:
        mode: one of `choices.RESIZE_MODES`.
        height, width: the target in pixels.
        interpolation: one of `choices.INTERPOLATIONS`.
        multiple: what the model's sides must be multiples of.
    """

    mode: str
    height: int
    width: int
    interpolation: str = "bilinear"
    multiple: int = 8

    def buckets(self, sizes: list[tuple[int, int]]) -> tuple[list[Shape], list[int]]:
        """The shapes (height, width) that pictures of these sizes (width, height) take, and the number of each's."""
        if self.mode != "bucket":
            return [(self.height, self.width)], [0] * len(sizes)
        shapes = bucket_shapes(self.height, self.width, self.multiple)
        chosen = [nearest_shape(size, shapes) for size in sizes]
        taken = sorted(set(chosen))
        return taken, [taken.index(shape) for shape in chosen]

    def view(self, picture: Image.Image, shape: Shape) -> Image.Image:
        """A picture, or its mask, in its bucket's shape; what a random crop would move over is cut in the middle."""
        return fit(picture, *shape, center_crop=self.mode != "squash", interpolation=self.interpolation)

    def views(self, pictures: list[Image.Image]) -> list[Image.Image]:
        """All pictures as training sees them."""
        shapes, numbers = self.buckets([picture.size for picture in pictures])
        return [self.view(picture, shapes[number]) for picture, number in zip(pictures, numbers, strict=True)]

    def material(self, picture: Image.Image, shape: Shape) -> Image.Image:
        """What samples are cut from: the view or, for random crops, the picture as large as it must be for them."""
        if self.mode == "random_crop":
            return cover(picture, *shape, interpolation=self.interpolation)
        return self.view(picture, shape)

    def say(self, shapes: list[Shape], numbers: list[int], say: Callable[[str], None]) -> None:
        """Tell what happens to the pictures, where it is not the plain thing."""
        if self.mode == "bucket":
            counts = [f"{w}x{h}: {numbers.count(number)}" for number, (h, w) in enumerate(shapes)]
            say(f"pictures by bucket (width x height): {', '.join(counts)}")
        if self.mode == "random_crop":
            say("random crops cannot be kept: the VAE stays in memory and encodes every sample anew, at every step")


def cut(array: np.ndarray, share: np.ndarray, shape: Shape, *, flipped: bool) -> np.ndarray:
    """The window of a shape (h, w) in an array [..., H, W], mirrored where that is asked for.

    Args:
        share: (down, right) in [0, 1): where the window lies, as shares of the room that it has to move in.
    """
    top, left = (int(s * (room + 1)) for s, room in zip(share, np.subtract(array.shape[-2:], shape), strict=True))
    window = array[..., top : top + shape[0], left : left + shape[1]]
    return window[..., ::-1] if flipped else window
