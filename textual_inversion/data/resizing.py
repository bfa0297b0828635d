"""How images of any shape are resized to the shapes that a model trains on: squashed, cropped, or in buckets.

An aspect-ratio bucket is a shape with about the same area as the target. An image goes into the bucket whose shape is
nearest to its own, and loses only a narrow margin. A crop to one common shape would cut off heads and feet.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from textual_inversion.data.augmentation import UNCHANGED, Change
from textual_inversion.data.cropping import Box, Focus, focal_box, focus_of, tile_boxes
from textual_inversion.data.image_sequence import ImageSequence
from textual_inversion.data.images import centred, cover, fit

_LARGE_SIDE = 256  # pixels; targets of this side and more have buckets in multiples of _LARGE_MULTIPLE
_LARGE_MULTIPLE = 64
_LONGEST = 2.0  # the longer side of a bucket is at most this many times that of the target
_LEAST_AREA = 0.8  # as a share of the target's; smaller shapes would waste detail

Shape = tuple[int, int]


def bucket_shapes(height: int, width: int, multiple: int) -> list[Shape]:
    """All shapes (height, width) with about the target's area, and not more.

    Args:
        height: of the target, in pixels. The target itself is always one of the shapes.
        width: of the target, in pixels.
        multiple: all sides are multiples of this; for large targets, of 64 too.
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
    """The shape whose aspect ratio is nearest to that of an image (width, height); of equals, the largest."""
    aspect = size[0] / size[1]
    return min(shapes, key=lambda shape: (round(abs(math.log(shape[1] / shape[0] / aspect)), 9), -shape[0] * shape[1]))


@dataclass(frozen=True)
class Frame:
    """A part of an image, and what it is brought to.

    Attributes:
        shape: (height, width) in pixels.
        box: the part, in pixels of the image; None: the one that the mode of resizing takes of every image.
        number: of the part among those of its image.
    """

    shape: Shape
    box: Box | None = None
    number: int = 0


@dataclass(frozen=True)
class Resizer:
    """Resizes every training image in the same way.

    Attributes:
        mode: one of `choices.RESIZE_MODES`.
        height: of the target, in pixels.
        width: of the target, in pixels.
        interpolation: one of `choices.INTERPOLATIONS`.
        multiple: the sides of buckets are multiples of this.
        tile_rows: see `cropping.tile_boxes`.
    """

    mode: str
    height: int
    width: int
    interpolation: str = "bilinear"
    multiple: int = 8
    tile_rows: int = 2

    def buckets(self, sizes: list[tuple[int, int]]) -> tuple[list[Shape], list[int]]:
        """The buckets of images.

        Args:
            sizes: (width, height) of each image.

        Returns:
            The shape (height, width) of each bucket that is used, and the bucket of each image.
        """
        if self.mode != "bucket":
            return [(self.height, self.width)], [0] * len(sizes)
        shapes = bucket_shapes(self.height, self.width, self.multiple)
        chosen = [nearest_shape(size, shapes) for size in sizes]
        taken = sorted(set(chosen))
        return taken, [taken.index(shape) for shape in chosen]

    def frames(self, size: tuple[int, int], shape: Shape, focus: Focus | None = None) -> list[Frame]:
        """The parts of an image (width, height) that are learned, one unless it is cut into several.

        Args:
            shape: of its bucket.
            focus: what stands out in it, where the mode is "focal_crop".
        """
        if self.mode == "tiles":
            return [Frame(shape, box, i) for i, box in enumerate(tile_boxes(size, shape, self.tile_rows))]
        if self.mode == "focal_crop" and focus is not None:
            return [Frame(shape, focal_box(size, shape[1] / shape[0], focus))]
        return [Frame(shape)]

    def resize(self, image: Image.Image, shape: Shape) -> Image.Image:
        """An image, or its mask, in the shape of its bucket. With random crops this is the crop in the middle."""
        return fit(image, *shape, center_crop=self.mode != "squash", interpolation=self.interpolation)

    def cut(self, image: Image.Image, frame: Frame, change: Change = UNCHANGED) -> Image.Image:
        """A part of an image, or of its mask, in its shape, turned and moved as a variant of it is.

        A part that is turned is cut out of what lies within it, so that no corner is empty.
        """
        height, width = frame.shape
        box = frame.box
        if change.crop is not None:
            box = _moved(image.size, centred(*image.size, width / height), change.crop)
        if not change.angle:
            if box is None:
                return self.resize(image, frame.shape)
            return fit(image, height, width, box=box, interpolation=self.interpolation)
        zoom = _zoom(height, width, change.angle)
        larger = Frame((math.ceil(height * zoom) + 2, math.ceil(width * zoom) + 2), box)
        turned = self.cut(image, larger).rotate(change.angle, Image.Resampling.BICUBIC)
        left, top = (turned.width - width) // 2, (turned.height - height) // 2
        return turned.crop((left, top, left + width, top + height))

    def resize_all(
        self, files: Sequence[Path], sizes: list[tuple[int, int]], load: Callable[[Path], Image.Image]
    ) -> ImageSequence:
        """All images, or their parts, each in the shape of its bucket and read when it is asked for.

        Args:
            sizes: (width, height) of each image.
            load: reads one.
        """
        shapes, buckets = self.buckets(sizes)
        framed = [
            (file, frame)
            for file, size, bucket in zip(files, sizes, buckets, strict=True)
            for frame in self.frames(size, shapes[bucket])
        ]
        return ImageSequence(framed, lambda one: self._cut_alone(load(one[0]), one[1]))

    def _cut_alone(self, image: Image.Image, frame: Frame) -> Image.Image:
        """A part of an image of which nothing is known yet."""
        if self.mode == "focal_crop":
            (frame,) = self.frames(image.size, frame.shape, focus_of(image))
        return self.cut(image, frame)

    def crop_source(self, image: Image.Image, shape: Shape) -> Image.Image:
        """What samples are cut from: the resized image or, for random crops, the smallest that covers the shape."""
        if self.mode == "random_crop":
            return cover(image, *shape, interpolation=self.interpolation)
        return self.resize(image, shape)

    def report(
        self, shapes: list[Shape], buckets: list[int], say: Callable[[str], None], *, encodes_live: bool = False
    ) -> None:
        """Report which buckets there are, or what random crops cost that are encoded at every step."""
        if self.mode == "bucket":
            counts = [f"{w}x{h}: {buckets.count(bucket)}" for bucket, (h, w) in enumerate(shapes)]
            say(f"images by bucket (width x height): {', '.join(counts)}")
        if encodes_live:
            say("random crops cannot be cached: the VAE stays in memory and encodes the samples of every step")


def _moved(size: tuple[int, int], box: Box, share: tuple[float, float]) -> Box:
    """A box as large as another, elsewhere in an image (width, height); `share` as in `cut`."""
    width, height = box[2] - box[0], box[3] - box[1]
    top, left = int(share[0] * (size[1] - height + 1)), int(share[1] * (size[0] - width + 1))
    return left, top, left + width, top + height


def _zoom(height: int, width: int, angle: float) -> float:
    """How much larger an image must be that still covers a frame when it is turned by an angle, in degrees."""
    cosine, sine = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    return max(cosine + sine * height / width, cosine + sine * width / height)


def cut(array: np.ndarray, share: np.ndarray, shape: Shape, *, flipped: bool) -> np.ndarray:
    """A window [..., h, w] of an array [..., H, W].

    Args:
        share: position of the window, (down, right) in [0, 1), as fractions of the free space.
        shape: (h, w).
        flipped: mirror the window.
    """
    top, left = (int(s * (room + 1)) for s, room in zip(share, np.subtract(array.shape[-2:], shape), strict=True))
    window = array[..., top : top + shape[0], left : left + shape[1]]
    return window[..., ::-1] if flipped else window
