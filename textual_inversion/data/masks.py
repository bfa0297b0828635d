"""Which parts of the training pictures count: masks from a folder or from the pictures' own transparency.

White counts, black does not, grey counts in between. A mask is framed, cropped and mirrored as its picture is, and
averaged over the pixels of each latent.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from textual_inversion.data.images import find_images, load_alpha, load_image
from textual_inversion.data.resizing import Framing, Shape, cut
from textual_inversion.system.errors import ImageError

_SHAPE_TOLERANCE = 0.02  # sides of a smaller mask are rounded
_SOURCE = "source"


def masks_for(
    pictures: list[Image.Image],
    paths: list[Path],
    folder: str | None,
    *,
    alpha: bool,
    note: Callable[[str], None],
) -> list[Image.Image]:
    """The masks of one concept's pictures, mode "L" and as large as they; none where no source of masks is named.

    Args:
        pictures, paths: the pictures and their files.
        folder: of the masks; None: there is none.
        alpha: the pictures' own transparency is their mask.

    Raises:
        ImageError: a mask is missing or cannot be used.
    """
    if folder is not None:
        return read_masks(find_masks(folder, paths, note), pictures, note)
    return alpha_masks(paths, note) if alpha else []


def find_masks(folder: str | os.PathLike[str], pictures: list[Path], note: Callable[[str], None]) -> list[Path]:
    """The mask of each picture: the file in `folder` with the same name but for its ending.

    Raises:
        ImageError: the folder is missing or holds no picture, lacks one's mask, or holds two for one.
    """
    by_stem: dict[str, list[Path]] = {}
    for path in find_images(folder, note, called="mask folder"):
        by_stem.setdefault(path.stem, []).append(path)
    for picture in pictures:
        found = by_stem.get(picture.stem, [])
        if not found:
            raise ImageError(f"mask folder {folder} holds no mask for {picture}; add {picture.stem}.png, white counts")
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise ImageError(f"mask folder {folder} holds {names} for {picture}; keep one of them")
    unused = sorted(by_stem.keys() - {picture.stem for picture in pictures})
    if unused:
        note(f"mask folder {folder}: no picture for {', '.join(unused)}")
    return [by_stem[picture.stem][0] for picture in pictures]


def read_masks(paths: list[Path], pictures: list[Image.Image], note: Callable[[str], None]) -> list[Image.Image]:
    """The masks (mode "L") in the files `paths`, each as large as its picture; what is transparent in them is black.

    Raises:
        ImageError: a file cannot be read, has another shape than its picture, or is black everywhere.
    """
    masks = [ImageChops.multiply(load_image(path).convert("L"), load_alpha(path)) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if _is_white(mask):
            note(f"{path}: is white everywhere, all of its picture counts")
    return [_as_large(mask, path, picture) for mask, path, picture in zip(masks, paths, pictures, strict=True)]


def _as_large(mask: Image.Image, path: Path, picture: Image.Image) -> Image.Image:
    if abs(mask.width * picture.height / (mask.height * picture.width) - 1) > _SHAPE_TOLERANCE:
        raise ImageError(
            f"{path}: is {mask.width}x{mask.height} pixels, its picture {picture.width}x{picture.height}; "
            "a mask must have its picture's shape"
        )
    if mask.getextrema()[1] == 0:
        raise ImageError(f"{path}: is black everywhere, nothing of its picture would be learned; white counts")
    mask = mask.resize(picture.size, Image.Resampling.BILINEAR)
    mask.info[_SOURCE] = path  # kept by whatever PIL does to the picture
    return mask


def alpha_masks(paths: list[Path], note: Callable[[str], None]) -> list[Image.Image]:
    """The masks (mode "L") that the pictures' own transparency makes; an opaque picture counts in all its parts."""
    masks = [load_alpha(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        mask.info[_SOURCE] = path
        if _is_white(mask):
            note(f"{path}: is not transparent anywhere, all of it counts")
    return masks


def check_alpha(masks: list[Image.Image]) -> None:
    """See to it that the masks of all concepts' pictures hide something.

    Raises:
        ImageError: no picture has any transparency.
    """
    if all(map(_is_white, masks)):
        raise ImageError("no training picture is transparent anywhere; --alpha_mask has nothing to go by, leave it out")


def _is_white(mask: Image.Image) -> bool:
    return mask.getextrema()[0] == 255


class Masks:
    """The weight of every place of every training picture.

    Args:
        masks: as large as the pictures, mode "L".
        framing: what is done to the pictures.
        shapes: (height, width) in pixels by bucket; numbers: the bucket of each picture.
        factor: pixels per latent.
        unmasked_weight: of what is black, in [0, 1].

    Raises:
        ImageError: only what is black of a mask is left after framing.
    """

    def __init__(
        self,
        masks: list[Image.Image],
        framing: Framing,
        shapes: list[Shape],
        numbers: list[int],
        factor: int,
        unmasked_weight: float = 0.0,
    ):
        self._shapes, self._factor, self._unmasked = shapes, factor, unmasked_weight
        framed = [framing.material(mask, shapes[number]) for mask, number in zip(masks, numbers, strict=True)]
        self._arrays = [np.asarray(mask, dtype=np.float32) / 255 for mask in framed]  # (H, W) in [0, 1]
        for mask, array in zip(masks, self._arrays, strict=True):
            if not array.any() and not unmasked_weight:
                raise ImageError(
                    f"{mask.info.get(_SOURCE, 'a mask')}: is black in all that framing leaves of it, nothing of the "
                    "picture would be learned; take another --resize_mode, or --unmasked_weight above 0"
                )

    def weights(self, batch) -> np.ndarray:
        """float32 [B, 1, H, W] in [0, 1], in latent resolution, for a `sampler.Batch`."""
        shape, f = self._shapes[batch.bucket], self._factor
        windows = [
            cut(self._arrays[image], crop, shape, flipped=bool(flip))
            for image, crop, flip in zip(batch.images, batch.crops, batch.flips, strict=True)
        ]
        blocks = np.stack(windows).reshape(len(windows), 1, shape[0] // f, f, shape[1] // f, f)
        return self._unmasked + (1 - self._unmasked) * blocks.mean(axis=(3, 5), dtype=np.float32)
