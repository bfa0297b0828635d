"""Which parts of the training images are learned: masks from a folder, or from the images' own transparency.

White is learned, black is not, and grey has a weight in between. A mask is resized, cropped and mirrored like its
image, and averaged over the pixels of each latent.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from textual_inversion.data.images import find_images, load_alpha, load_image
from textual_inversion.data.resizing import Resizer, Shape, cut
from textual_inversion.data.sampler import Batch
from textual_inversion.system.errors import ImageError

_SHAPE_TOLERANCE = 0.02  # a smaller mask has rounded sides
_SOURCE = "source"


def masks_for(
    images: list[Image.Image],
    paths: list[Path],
    folder: str | None,
    *,
    alpha: bool,
    note: Callable[[str], None],
) -> list[Image.Image]:
    """The masks of one concept's images: mode "L", each as large as its image; [] without a source of masks.

    Args:
        images: the concept's images.
        paths: their files.
        folder: of mask files, or None.
        alpha: without a folder, take the images' own transparency.
        note: called with masks that have no image, and with masks that have no effect.

    Raises:
        ImageError: a mask is missing or cannot be used.
    """
    if folder is not None:
        return read_masks(find_masks(folder, paths, note), images, note)
    return alpha_masks(paths, note) if alpha else []


def find_masks(folder: str | os.PathLike[str], images: list[Path], note: Callable[[str], None]) -> list[Path]:
    """The mask file of each image: the file in `folder` that has the same name, apart from the extension.

    Raises:
        ImageError: the folder is missing or has no images, or an image has no mask or several.
    """
    by_stem: dict[str, list[Path]] = {}
    for path in find_images(folder, note, called="mask folder"):
        by_stem.setdefault(path.stem, []).append(path)
    for image in images:
        found = by_stem.get(image.stem, [])
        if not found:
            raise ImageError(f"mask folder {folder} has no mask for {image}; add {image.stem}.png, white is learned")
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise ImageError(f"mask folder {folder} has {names} for {image}; keep one of them")
    unused = sorted(by_stem.keys() - {image.stem for image in images})
    if unused:
        note(f"mask folder {folder}: no image for {', '.join(unused)}")
    return [by_stem[image.stem][0] for image in images]


def read_masks(paths: list[Path], images: list[Image.Image], note: Callable[[str], None]) -> list[Image.Image]:
    """Read mask files: mode "L", each as large as its image. Transparent parts of a mask count as black.

    Raises:
        ImageError: a file cannot be read, has another aspect ratio than its image, or is black everywhere.
    """
    masks = [ImageChops.multiply(load_image(path).convert("L"), load_alpha(path)) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        if _is_white(mask):
            note(f"{path}: is white everywhere, so the whole image is learned")
    return [_as_large(mask, path, image) for mask, path, image in zip(masks, paths, images, strict=True)]


def _as_large(mask: Image.Image, path: Path, image: Image.Image) -> Image.Image:
    if abs(mask.width * image.height / (mask.height * image.width) - 1) > _SHAPE_TOLERANCE:
        raise ImageError(
            f"{path}: is {mask.width}x{mask.height} pixels, but its image {image.width}x{image.height}; "
            "give the mask the shape of its image"
        )
    if mask.getextrema()[1] == 0:
        raise ImageError(f"{path}: is black everywhere, so nothing of its image would be learned; white is learned")
    mask = mask.resize(image.size, Image.Resampling.BILINEAR)
    mask.info[_SOURCE] = path  # PIL keeps it in copies of the image
    return mask


def alpha_masks(paths: list[Path], note: Callable[[str], None]) -> list[Image.Image]:
    """Masks (mode "L") from the images' own transparency; an opaque image is learned as a whole."""
    masks = [load_alpha(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        mask.info[_SOURCE] = path
        if _is_white(mask):
            note(f"{path}: is not transparent anywhere, so all of it is learned")
    return masks


def check_alpha(masks: list[Image.Image]) -> None:
    """Make sure that the masks of all concepts together hide something.

    Raises:
        ImageError: no image has a transparent pixel.
    """
    if all(map(_is_white, masks)):
        raise ImageError("--alpha_mask has no effect: no training image is transparent anywhere; leave it out")


def _is_white(mask: Image.Image) -> bool:
    return mask.getextrema()[0] == 255


class Masks:
    """The weight of every position of every training image.

    Args:
        masks: mode "L", each as large as its image.
        resizer: what resizes the images.
        shapes: (height, width) in pixels, by bucket.
        buckets: the bucket of each image.
        factor: pixels per latent, along each side.
        unmasked_weight: weight of black parts, in [0, 1].

    Raises:
        ImageError: the part of a mask that is left after cropping is black everywhere.
    """

    def __init__(
        self,
        masks: list[Image.Image],
        resizer: Resizer,
        shapes: list[Shape],
        buckets: list[int],
        factor: int,
        unmasked_weight: float = 0.0,
    ):
        self._shapes, self._factor, self._unmasked = shapes, factor, unmasked_weight
        resized = [resizer.crop_source(mask, shapes[bucket]) for mask, bucket in zip(masks, buckets, strict=True)]
        self._arrays = [np.asarray(mask, dtype=np.float32) / 255 for mask in resized]  # (H, W) in [0, 1]
        for mask, array in zip(masks, self._arrays, strict=True):
            if not array.any() and not unmasked_weight:
                raise ImageError(
                    f"{mask.info.get(_SOURCE, 'a mask')}: is black in all that is left after cropping, so nothing "
                    "of its image would be learned; choose another --resize_mode, or --unmasked_weight above 0"
                )

    def weights(self, batch: Batch) -> np.ndarray:
        """The weights of a batch, in latent resolution: float32 [B, 1, H, W] in [0, 1]."""
        shape, f = self._shapes[batch.bucket], self._factor
        windows = [
            cut(self._arrays[image], crop, shape, flipped=bool(flip))
            for image, crop, flip in zip(batch.images, batch.crops, batch.flips, strict=True)
        ]
        blocks = np.stack(windows).reshape(len(windows), 1, shape[0] // f, f, shape[1] // f, f)
        return self._unmasked + (1 - self._unmasked) * blocks.mean(axis=(3, 5), dtype=np.float32)
