"""Which parts of the training images are learned: masks from a folder, or made of the images themselves.

White is learned, black is not, and grey has a weight in between. A mask is resized, cropped and mirrored like its
image, and averaged over the pixels of each latent.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from textual_inversion.data.augmentation import NONE, Augmentation, Change
from textual_inversion.data.image_folder import find_images, listed
from textual_inversion.data.images import content_digest, load_alpha, load_image, load_mask, stored_size
from textual_inversion.data.plain_background import NotPlain, foreground
from textual_inversion.data.resizing import Frame, Resizer, Shape, cut
from textual_inversion.data.segmentation import Segmenter
from textual_inversion.formats.learned_embedding import composed
from textual_inversion.settings.choices import ALPHA, PLAIN_BACKGROUND
from textual_inversion.system.errors import ImageError

if TYPE_CHECKING:
    from textual_inversion.data.sampler import Batch  # which imports Paddle

_SHAPE_TOLERANCE = 0.02  # a smaller mask has rounded sides
_SOURCE = "source"
_LONGEST = 1024  # longest side of an image in which a mask is looked for, in pixels
_VISIBLE = 128  # a mask that is darker everywhere counts as empty
_WHITE = "is white everywhere, so the whole image"


@dataclass(frozen=True)
class MaskFile:
    """The mask of one training image, read whenever it is needed.

    Attributes:
        path: of the mask, or of an image that the mask was made of.
        size: (width, height) of the image.
        is_alpha: it is the transparency of that file.
        digest: of the mask's pixels.
        is_white: all of the image is learned.
        made: a mask that was found in the image, as a small PNG; None: it is read from the file.
        is_whole: there is no file of the mask, all of which is white.
    """

    path: Path
    size: tuple[int, int]
    is_alpha: bool
    digest: bytes
    is_white: bool
    made: bytes | None = None
    is_whole: bool = False

    @classmethod
    def whole(cls, image: Path, size: tuple[int, int]) -> "MaskFile":
        """The mask of an image that needs none, beside others that have one."""
        return cls(image, size, False, b"", True, is_whole=True)

    def load(self) -> Image.Image:
        """The mask: mode "L", as large as its image. Its `info` names the file."""
        if self.is_whole:
            mask = Image.new("L", self.size, 255)
        elif self.made is not None:
            mask = Image.open(BytesIO(self.made)).convert("L").resize(self.size, Image.Resampling.BILINEAR)
        else:
            return _load(self.path, self.size, self.is_alpha)
        mask.info[_SOURCE] = self.path
        return mask


def masks_for(
    images: Sequence[tuple[Path, tuple[int, int]]],
    folder: str | None,
    *,
    source: str | None = None,
    segmenter: Segmenter | None = None,
    note: Callable[[str], None],
) -> list[MaskFile]:
    """The masks of one concept's images, each looked at once; [] without a source of masks.

    Args:
        images: the concept's images and their sizes (width, height).
        folder: of mask files, or None.
        source: without a folder, what of the images themselves is the mask, one of `choices.MASK_SOURCES`.
        segmenter: finds what stands before the background, where that is the source.
        note: called with masks that have no image, and with masks that have no effect.

    Raises:
        ImageError: a mask is missing or cannot be used.
        SettingsError: there is no model to find it with.
    """
    paths = [path for path, _ in images]
    if folder is None and source not in (None, ALPHA):
        find = plain_mask if source == PLAIN_BACKGROUND else segmenter.mask
        return [_found_in(path, size, find, note) for path, size in images]
    if folder is not None:
        sources = find_masks(folder, paths, note)
    else:
        sources = paths if source == ALPHA else []
    return [
        _looked_at(source, size, folder is None, note)
        for source, (_, size) in zip(sources, images, strict=bool(sources))
    ]


def _looked_at(path: Path, size: tuple[int, int], is_alpha: bool, note: Callable[[str], None]) -> MaskFile:
    mask = _load(path, size, is_alpha)
    is_white = _is_white(mask)
    if is_white:
        note(f"{path}: {'is not transparent anywhere, so all of it' if is_alpha else _WHITE} is learned")
    return MaskFile(path, size, is_alpha, content_digest(mask), is_white)


def _found_in(
    path: Path, size: tuple[int, int], find: Callable[[Image.Image], Image.Image], note: Callable[[str], None]
) -> MaskFile:
    """The mask that is found in an image."""
    image = load_image(path)
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    try:
        mask = find(image)
    except NotPlain as error:
        raise ImageError(f"{path}: {error}; give its mask in --mask_dir, or use --mask_from background") from None
    if mask.getextrema()[1] < _VISIBLE:
        raise ImageError(f"{path}: nothing stands out from its background; give its mask in --mask_dir")
    is_white = _is_white(mask)
    if is_white:
        note(f"{path}: no background was found in it, so all of it is learned")
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return MaskFile(path, size, False, content_digest(mask), is_white, buffer.getvalue())


def plain_mask(image: Image.Image) -> Image.Image:
    """What stands before the plain background of an RGB image: mode "L"; raises NotPlain."""
    return Image.fromarray(foreground(np.asarray(image)))


def find_masks(
    folder: str | os.PathLike[str],
    images: list[Path],
    note: Callable[[str], None],
    meaning: str = "white is learned",
) -> list[Path]:
    """The mask file of each image: the file in `folder` that has the same name, apart from the extension.

    Of several, the one in a subfolder of the same name as the image's is taken.

    Args:
        meaning: what white is, for the message about a missing mask.

    Raises:
        ImageError: the folder is missing or has no images, or an image has no mask or several.
    """
    by_stem: dict[str, list[Path]] = {}
    for path in find_images(folder, note, called="mask folder"):
        by_stem.setdefault(composed(path.stem), []).append(path)
    chosen = []
    for image in images:
        found = by_stem.get(composed(image.stem), [])
        if len(found) > 1:
            found = [path for path in found if path.parent.name == image.parent.name] or found
        if not found:
            raise ImageError(f"mask folder {folder} has no mask for {image}; add {image.stem}.png, {meaning}")
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            raise ImageError(f"mask folder {folder} has {names} for {image}; keep one of them")
        chosen += found
    unused = sorted(by_stem.keys() - {composed(image.stem) for image in images})
    if unused:
        note(f"mask folder {folder}: no image for {listed(unused)}")
    return chosen


def _load(path: Path, size: tuple[int, int], is_alpha: bool) -> Image.Image:
    """The mask in a file, or the transparency of an image. Transparent parts of a mask count as black.

    Raises:
        ImageError: the file cannot be read or, as a mask, has another aspect ratio than its image or is black.
    """
    if not is_alpha:
        width, height = stored_size(path)
        if not (_have_one_shape((width, height), size) or _have_one_shape((height, width), size)):  # or it lies
            raise _wrong_shape(path, (width, height), size)  # before a large one is decoded
        return _as_large(load_mask(path), path, size)
    mask = load_alpha(path)
    mask.info[_SOURCE] = path
    return mask


def _have_one_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _SHAPE_TOLERANCE


def _wrong_shape(path: Path, mask: tuple[int, int], image: tuple[int, int]) -> ImageError:
    has, wanted = ("x".join(map(str, size)) for size in (mask, image))
    return ImageError(f"{path}: is {has} pixels, but its image {wanted}; give the mask the shape of its image")


def _as_large(mask: Image.Image, path: Path, size: tuple[int, int]) -> Image.Image:
    if not _have_one_shape(mask.size, size):
        raise _wrong_shape(path, mask.size, size)
    if mask.getextrema()[1] == 0:
        raise ImageError(f"{path}: is black everywhere, so nothing of its image would be learned; white is learned")
    mask = mask.resize(size, Image.Resampling.BILINEAR)
    mask.info[_SOURCE] = path  # PIL keeps it in copies of the image
    return mask


def check_alpha(masks: Sequence[MaskFile]) -> None:
    """Make sure that the masks of all concepts together hide something.

    Raises:
        ImageError: no image has a transparent pixel.
    """
    if all(mask.is_white for mask in masks):
        raise ImageError("--mask_from alpha has no effect: no training image is transparent anywhere; leave it out")


def _is_white(mask: Image.Image) -> bool:
    return mask.getextrema()[0] == 255


class Masks:
    """The weight of every position of every training image, or part of one, in all its variants.

    Args:
        masks: mode "L", each as large as its image; looked at one by one.
        resizer: what resizes the images.
        shapes: (height, width) in pixels, by bucket.
        buckets: the bucket of each image.
        factor: pixels per latent, along each side.
        unmasked_weight: weight of black parts, in [0, 1].
        frames: the parts that each image is cut into; None: one of each.
        augmentation: the variants of each part.

    Attributes:
        learned: of every part, whether there is anything to learn in it.

    Raises:
        ImageError: the part of a mask that is left after cropping is black everywhere.
    """

    def __init__(
        self,
        masks: Iterable[Image.Image],
        resizer: Resizer,
        shapes: list[Shape],
        buckets: list[int],
        factor: int,
        unmasked_weight: float = 0.0,
        *,
        frames: Sequence[Sequence[Frame]] | None = None,
        augmentation: Augmentation = NONE,
    ):
        self._shapes, self._factor, self._unmasked = shapes, factor, unmasked_weight
        self._is_cropped = resizer.mode == "random_crop" and augmentation.variants == 1
        # Where nothing is cropped while training, the sums over the pixels of each latent are all that is needed.
        self._arrays: list[list[np.ndarray]] = []  # of each part and variant: uint8 [H, W], or the sums
        self.learned: list[bool] = []
        frames = frames or [[Frame(shapes[bucket])] for bucket in buckets]
        for number, (mask, own) in enumerate(zip(masks, frames, strict=True)):
            parts = [self._arrays_of(mask, frame, resizer, augmentation.changes(number, frame.number)) for frame in own]
            has_weight = [bool(unmasked_weight or variants[0].any()) for variants in parts]
            if not any(has_weight):
                raise ImageError(
                    f"{mask.info.get(_SOURCE, 'a mask')}: is black in all that is left after cropping, so nothing "
                    "of its image would be learned; choose another --resize_mode, or --unmasked_weight above 0"
                )
            self._arrays += parts
            self.learned += has_weight

    def _arrays_of(
        self, mask: Image.Image, frame: Frame, resizer: Resizer, changes: Sequence[Change]
    ) -> list[np.ndarray]:
        """The variants of one part."""
        if self._is_cropped:
            return [np.asarray(resizer.crop_source(mask, frame.shape))]
        return [_sums(np.asarray(resizer.cut(mask, frame, change)), self._factor) for change in changes]

    def keep_learned(self) -> None:
        """Leave out the parts in which there is nothing to learn."""
        self._arrays = [own for own, is_learned in zip(self._arrays, self.learned, strict=True) if is_learned]
        self.learned = [True] * len(self._arrays)

    def whole(self, image: int) -> np.ndarray:
        """The weights of an image itself, or of the middle of what is cropped: float32 [H, W] in [0, 1], in latents."""
        array = self._arrays[image][0]
        if self._is_cropped:
            shape = self._shapes[0]
            array = _sums(cut(array, np.array([0.5, 0.5]), shape, flipped=False), self._factor)
        return self._weight(array)

    def weights(self, batch: "Batch") -> np.ndarray:
        """The weights of a batch, in latent resolution: float32 [B, 1, H, W] in [0, 1]."""
        shown = zip(batch.images, batch.drawn_variants, batch.crops, batch.flips, strict=True)
        shape = self._shapes[batch.bucket]
        return self._weight(np.stack([
            self._sums_of(self._arrays[image][variant], crop, shape, flipped=bool(flip))
            for image, variant, crop, flip in shown
        ])[:, None])  # fmt: skip

    def _weight(self, sums: np.ndarray) -> np.ndarray:
        means = sums.astype(np.float32) / np.float32(255 * self._factor**2)
        return self._unmasked + (1 - self._unmasked) * means

    def _sums_of(self, array: np.ndarray, crop: np.ndarray, shape: Shape, *, flipped: bool) -> np.ndarray:
        if self._is_cropped:
            return _sums(cut(array, crop, shape, flipped=flipped), self._factor)
        return array[:, ::-1] if flipped else array


def _sums(mask: np.ndarray, factor: int) -> np.ndarray:
    """The sum over the pixels of each latent, uint32 [H / factor, W / factor], of a mask uint8 [H, W]."""
    height, width = mask.shape
    blocks = mask.reshape(height // factor, factor, width // factor, factor)
    return blocks.sum(axis=(1, 3), dtype=np.uint32)
