"""Training images cut to the shape that the model learns from: parts of them, and variants of these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from textual_inversion.data.augmentation import Augmentation, Change
from textual_inversion.data.image_files import ImageFile
from textual_inversion.data.resizing import Frame, Resizer


@dataclass(frozen=True)
class Framed:
    """An image, by its number among all images, and the parts of it that are learned."""

    number: int
    file: ImageFile
    frames: list[Frame]


def with_learned(framed: Sequence[Framed], learned: Sequence[bool]) -> Iterator[Framed]:
    """The images without those parts that are not learned."""
    rest = iter(learned)
    for one in framed:
        yield replace(one, frames=[frame for frame in one.frames if next(rest)])


@dataclass(frozen=True)
class Cutter:
    """Makes the variants of images.

    Attributes:
        resizer: cuts and turns.
        augmentation: says how the variants differ.
        workers: threads that read the images.
    """

    resizer: Resizer
    augmentation: Augmentation
    workers: int

    def variants(self, one: Framed) -> list[list[Image.Image]]:
        """All variants of each part of an image; the image itself is read once."""
        image = one.file.load()
        return [
            [change.colours(self.resizer.cut(image, frame, change)) for change in self._changes(one, frame)]
            for frame in one.frames
        ]

    def _changes(self, one: Framed, frame: Frame) -> list[Change]:
        return self.augmentation.changes(one.number, frame.number)
