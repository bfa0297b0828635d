"""Images that are made one by one when they are asked for, so that any number of them takes the memory of a few."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from PIL import Image


class ImageSequence(Sequence[Image.Image]):
    """RGB images that are made when they are asked for, and not kept.

    Args:
        keys: what each image is made from.
        make: makes one.
    """

    def __init__(self, keys: Sequence[Any], make: Callable[[Any], Image.Image]):
        self._keys, self._make = keys, make

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...

    def __getitem__(self, index):
        keys = self._keys[index]
        return [self._make(key) for key in keys] if isinstance(index, slice) else self._make(keys)

    def where(self, chosen: Iterable[bool]) -> "ImageSequence":
        """Those images for which `chosen` is true."""
        return ImageSequence([key for key, is_one in zip(self._keys, chosen, strict=True) if is_one], self._make)
